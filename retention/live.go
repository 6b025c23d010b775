package retention

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// keeper says what keeps an object.
type keeper bool

const (
	byHead keeper = false // a checkpoint that HEAD lists
	byPin  keeper = true  // only unlinked checkpoints that are being read
)

// checkpoint is a live checkpoint as retention sees it.
type checkpoint struct {
	id       manifest.ID
	manifest objectRef   // its own stored form
	objects  []objectRef // besides those of parts
	parts    []*part
	keptBy   keeper
}

// objectRef is a stored object without its digest: a live set may hold
// millions.
type objectRef struct {
	key  string
	size int64
}

// live is what a job's store must keep, as of the moment its HEAD was read.
type live struct {
	head        catalog.Head
	unlink      []manifest.ID // listed, but treated as if they were not
	checkpoints []checkpoint
	noted       map[*part]bool // their objects are in keys
	keys        map[string]keeper
	expiredPins []string
}

// maxRereads bounds how often readLive begins again because another process
// unlinked a checkpoint while its manifest was about to be read.
const maxRereads = 100

// readLive reads HEAD, then the pins, then the manifests. The order is what the
// package comment's argument rests on. The checkpoints in unlink are treated as
// unlinked.
func readLive(ctx context.Context, cat *catalog.Catalog, store objectstore.Store, parts *partSet, unlink ...manifest.ID) (*live, error) {
	for range maxRereads {
		head, err := cat.Head(ctx)
		if err != nil {
			return nil, err
		}
		l, err := readLiveOf(ctx, cat, store, parts, head, unlink)
		if err == nil {
			return l, nil
		}
		// The manifest of a checkpoint that was unlinked meanwhile may be gone
		// for good; that of one still listed must not be.
		again, herr := cat.Head(ctx)
		if herr != nil || sameList(head, again) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("read live checkpoints: HEAD changed %d times meanwhile", maxRereads)
}

func sameList(a, b catalog.Head) bool {
	return slices.EqualFunc(a.Checkpoints, b.Checkpoints, func(x, y catalog.Entry) bool { return x.ID == y.ID })
}

func readLiveOf(ctx context.Context, cat *catalog.Catalog, store objectstore.Store, parts *partSet, head catalog.Head, unlink []manifest.ID) (*live, error) {
	l := &live{head: head, unlink: []manifest.ID{}, noted: make(map[*part]bool), keys: make(map[string]keeper)}
	pins, err := cat.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	for _, e := range head.Checkpoints {
		if slices.Contains(unlink, e.ID) {
			l.unlink = append(l.unlink, e.ID)
			continue
		}
		c, err := readListed(ctx, cat, store, parts, e)
		if err != nil {
			return nil, fmt.Errorf("checkpoint %d: %w", e.ID, err)
		}
		l.add(c)
	}
	for _, pin := range pins {
		if pin.Expired {
			l.expiredPins = append(l.expiredPins, pin.Key)
		} else if !l.has(pin.ID) {
			held, err := readPinned(ctx, store, parts, pin.ID)
			if err != nil {
				return nil, err
			}
			for _, c := range held {
				l.add(c)
			}
		}
	}
	return l, nil
}

// readPinned reads what a pin keeps alive of a checkpoint that HEAD does not
// list. The pin does not say which epoch's it is, so every manifest of that
// id counts: at most the garbage of an earlier owner stays a little longer.
func readPinned(ctx context.Context, store objectstore.Store, parts *partSet, id manifest.ID) ([]checkpoint, error) {
	var out []checkpoint
	for info, err := range store.List(ctx, manifest.ManifestsPrefix+id.String()+"-", "") {
		if err != nil {
			return nil, fmt.Errorf("list manifests of pinned checkpoint %d: %w", id, err)
		}
		c, err := readUnlisted(ctx, store, parts, info)
		if errors.Is(err, objectstore.ErrNotExist) {
			if _, err := store.Stat(ctx, info.Key); errors.Is(err, objectstore.ErrNotExist) {
				continue // deleted since, by one to whom the pin had expired
			}
		}
		if err != nil {
			return nil, fmt.Errorf("pinned checkpoint %d: %w", id, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func readUnlisted(ctx context.Context, store objectstore.Store, parts *partSet, info objectstore.Info) (checkpoint, error) {
	data, _, err := objectstore.ReadAll(ctx, store, info.Key, info.Size)
	if err != nil {
		return checkpoint{}, err
	}
	o, err := manifest.DecodeOutline(data)
	if err != nil {
		return checkpoint{}, &manifest.CorruptError{Key: info.Key, Err: err}
	}
	return readCheckpoint(ctx, store, parts, o, info.Size, byPin)
}

// readListed reads a checkpoint that HEAD lists.
func readListed(ctx context.Context, cat *catalog.Catalog, store objectstore.Store, parts *partSet, e catalog.Entry) (checkpoint, error) {
	o, err := cat.Outline(ctx, e)
	if err != nil {
		return checkpoint{}, err
	}
	return readCheckpoint(ctx, store, parts, o, e.ManifestSize, byHead)
}

func (l *live) add(c checkpoint) {
	l.checkpoints = append(l.checkpoints, c)
	l.keep(c.manifest.key, c.keptBy)
	for _, o := range c.objects {
		l.keep(o.key, c.keptBy)
	}
	for _, p := range c.parts {
		if l.noted[p] {
			continue
		}
		l.noted[p] = true
		for _, o := range p.objects {
			l.keep(o.key, c.keptBy)
		}
	}
}

// keep notes what keeps an object. The listed checkpoints come first.
func (l *live) keep(key string, by keeper) {
	if _, ok := l.keys[key]; !ok {
		l.keys[key] = by
	}
}

func (l *live) has(id manifest.ID) bool {
	return slices.ContainsFunc(l.checkpoints, func(c checkpoint) bool { return c.id == id })
}

// newest is the id of the newest committed checkpoint; 0 if there is none.
func (l *live) newest() manifest.ID {
	e, _ := l.head.Newest()
	return e.ID
}

func (l *live) listed() []manifest.ID { return l.ids(byHead) }
func (l *live) pinned() []manifest.ID { return l.ids(byPin) }

// ids are those of the checkpoints kept in the given way, ascending, each once.
func (l *live) ids(by keeper) []manifest.ID {
	set := make(map[manifest.ID]bool)
	for _, c := range l.checkpoints {
		if c.keptBy == by {
			set[c.id] = true
		}
	}
	out := slices.AppendSeq(make([]manifest.ID, 0, len(set)), maps.Keys(set))
	slices.Sort(out)
	return out
}
