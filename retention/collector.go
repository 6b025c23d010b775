package retention

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Collector deletes for the running owner of a job what its retired checkpoints
// held alone. It knows what every live checkpoint keeps alive, so that a
// Collect costs one read of HEAD and one listing of the pins besides the
// deletions, and nothing at all if no checkpoint was retired.
//
// All methods may be called concurrently; Collect and Sweep run one at a time.
type Collector struct {
	cat   *catalog.Catalog
	store objectstore.Store
	epoch manifest.Epoch
	batch int
	parts *partSet

	run sync.Mutex // held by the one Collect or Sweep

	mu     sync.Mutex
	loaded bool
	uuid   string
	live   map[string]checkpoint // by the manifest's key
	refs   map[string]int        // data key → live checkpoints and parts that keep it
	queue  []Item                // may be deleted
}

// CollectorOptions are the choices of a Collector.
type CollectorOptions struct {
	// Epoch is the owner's. Under any other nothing is deleted.
	Epoch manifest.Epoch
	// Batch is how many objects one call deletes; 0 means 1000.
	Batch int
}

// NewCollector returns the collector of one owner. store is that of the job, as
// given to cat. It does no I/O.
func NewCollector(cat *catalog.Catalog, store objectstore.Store, opts CollectorOptions) *Collector {
	return &Collector{
		cat: cat, store: store, epoch: opts.Epoch, batch: opts.Batch,
		parts: newPartSet(), live: make(map[string]checkpoint), refs: make(map[string]int),
	}
}

// Committed tells what a checkpoint that was just committed keeps alive, so that
// the next Collect need not read its manifest back. m is not retained.
func (c *Collector) Committed(e catalog.Entry, m *manifest.Manifest) {
	cp := newCheckpoint(m, c.cat.Known(e), e.ManifestSize, byHead, c.parts)
	c.mu.Lock()
	defer c.mu.Unlock()
	// Also before the first load: that may have read HEAD before this commit,
	// and a later commit may have unlinked this checkpoint, while it is pinned,
	// before anybody asked HEAD again.
	c.add(cp)
}

// Waiting is how many objects may be deleted and have not been yet: those that
// failed, and those of a Collect under way.
func (c *Collector) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// Collect deletes what is kept alive by none of the checkpoints in head, which
// is HEAD as the owner's last swap left it, and by no pin, among the objects
// of those checkpoints that were live before. A checkpoint that is pinned is
// put off until a later Collect.
//
// An error loses nothing: what it could not delete stays queued. It is
// catalog.ErrFenced if the owner was replaced; a *objectstore.DeleteError if
// only some objects failed.
func (c *Collector) Collect(ctx context.Context, head catalog.Head) (Result, error) {
	c.run.Lock()
	defer c.run.Unlock()
	if head.Epoch != c.epoch {
		return Result{}, fmt.Errorf("collect: epoch %d is not this owner's %d: %w", head.Epoch, c.epoch, catalog.ErrFenced)
	}
	if err := c.load(ctx); err != nil {
		return Result{}, fmt.Errorf("collect: %w", err)
	}
	if err := c.retire(ctx, head); err != nil {
		return Result{}, fmt.Errorf("collect: %w", err)
	}
	res, err := c.flush(ctx)
	if err != nil {
		return res, fmt.Errorf("collect: %w", err)
	}
	return res, nil
}

// Sweep makes a plan of everything stored and applies it: what crashes, aborts
// and fenced owners left behind. It is meant to run beside the job, once after
// a start and now and then.
func (c *Collector) Sweep(ctx context.Context) (Result, error) {
	c.run.Lock()
	defer c.run.Unlock()
	if err := c.load(ctx); err != nil {
		return Result{}, fmt.Errorf("sweep: %w", err)
	}
	plan, err := NewPlan(ctx, c.cat, c.store)
	if err != nil {
		return Result{}, fmt.Errorf("sweep: %w", err)
	}
	return Apply(ctx, c.cat, c.store, plan, ApplyOptions{Batch: c.batch, Epoch: c.epoch})
}

// load reads once what HEAD and the pins keep alive.
func (c *Collector) load(ctx context.Context) error {
	c.mu.Lock()
	loaded := c.loaded
	c.mu.Unlock()
	if loaded {
		return nil
	}
	l, err := readLive(ctx, c.cat, c.store, c.parts)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cp := range l.checkpoints {
		c.add(cp)
	}
	c.uuid, c.loaded = l.head.UUID, true
	return nil
}

// add makes a checkpoint count as live. Called with mu held.
func (c *Collector) add(cp checkpoint) {
	if _, ok := c.live[cp.manifest.key]; ok {
		return
	}
	c.live[cp.manifest.key] = cp
	for _, o := range cp.objects {
		c.refs[o.key]++
	}
	for _, p := range cp.parts {
		if p.uses++; p.uses > 1 {
			continue
		}
		for _, o := range p.objects {
			c.refs[o.key]++
		}
	}
}

// retire compares what counted as live with head, and queues what only
// unlinked checkpoints kept. The pins are listed after the unlinking.
func (c *Collector) retire(ctx context.Context, head catalog.Head) error {
	listed := make(map[string]bool, len(head.Checkpoints))
	var newest manifest.ID
	for _, e := range head.Checkpoints {
		listed[manifest.ManifestKey(e.ID, e.Epoch)] = true
		newest = max(newest, e.ID)
		if err := c.track(ctx, e); err != nil {
			return err
		}
	}
	gone := c.unlisted(listed, newest)
	if len(gone) == 0 {
		return nil
	}
	pinned, err := c.pinned(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cp := range gone {
		if !pinned[cp.id] {
			c.release(cp)
		}
	}
	return nil
}

// pinned are the checkpoints that are being read. One that this collector has
// never heard of counts as live from now on.
func (c *Collector) pinned(ctx context.Context) (map[manifest.ID]bool, error) {
	pins, err := c.cat.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	ids := make(map[manifest.ID]bool)
	for _, p := range pins {
		if p.Expired || ids[p.ID] {
			continue
		}
		ids[p.ID] = true
		if c.knows(p.ID) {
			continue
		}
		held, err := readPinned(ctx, c.store, c.parts, p.ID)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		for _, cp := range held {
			c.add(cp)
		}
		c.mu.Unlock()
	}
	return ids, nil
}

func (c *Collector) knows(id manifest.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cp := range c.live {
		if cp.id == id {
			return true
		}
	}
	return false
}

// track makes sure that a listed checkpoint counts as live.
func (c *Collector) track(ctx context.Context, e catalog.Entry) error {
	c.mu.Lock()
	_, ok := c.live[manifest.ManifestKey(e.ID, e.Epoch)]
	c.mu.Unlock()
	if ok {
		return nil
	}
	cp, err := readListed(ctx, c.cat, c.store, c.parts, e)
	if err != nil {
		return fmt.Errorf("checkpoint %d: %w", e.ID, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(cp)
	return nil
}

// unlisted are the checkpoints that no longer count, oldest first. One newer
// than all of HEAD waits until a newer one is committed: a pending checkpoint
// may build on it.
func (c *Collector) unlisted(listed map[string]bool, newest manifest.ID) []checkpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []checkpoint
	for key, cp := range c.live {
		if !listed[key] && cp.id < newest {
			out = append(out, cp)
		}
	}
	slices.SortFunc(out, func(a, b checkpoint) int { return strings.Compare(a.manifest.key, b.manifest.key) })
	return out
}

// release queues a checkpoint's manifest, and each of its objects that nothing
// else keeps. Called with mu held.
func (c *Collector) release(cp checkpoint) {
	delete(c.live, cp.manifest.key)
	c.queue = append(c.queue, Item{Key: cp.manifest.key, Size: cp.manifest.size, Reason: Unlisted})
	for _, o := range cp.objects {
		c.drop(o)
	}
	for _, p := range cp.parts {
		if p.uses--; p.uses > 0 {
			continue
		}
		c.parts.drop(p)
		for _, o := range p.objects {
			c.drop(o)
		}
	}
}

// drop counts an object once less. Called with mu held.
func (c *Collector) drop(o objectRef) {
	if c.refs[o.key]--; c.refs[o.key] == 0 {
		delete(c.refs, o.key)
		c.queue = append(c.queue, Item{Key: o.key, Size: o.size, Reason: Unused})
	}
}

// flush deletes what is queued, manifests first, and keeps what is left.
func (c *Collector) flush(ctx context.Context) (Result, error) {
	c.mu.Lock()
	items := slices.Clone(c.queue)
	c.mu.Unlock()
	if len(items) == 0 {
		return Result{}, nil
	}
	slices.SortStableFunc(items, func(a, b Item) int { return cmp.Compare(rank(a), rank(b)) })
	a := &applier{cat: c.cat, store: c.store, uuid: c.uuid, opts: ApplyOptions{Batch: c.batch, Epoch: c.epoch}}
	err := a.run(ctx, items)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = a.left
	return a.result, err
}

func rank(it Item) int {
	if isManifest(it) {
		return 0
	}
	return 1
}
