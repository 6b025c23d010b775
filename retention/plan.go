package retention

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// Reason says why an object goes, or why it stays for now.
type Reason string

// Reasons for a deletion.
const (
	// Unlisted is the manifest of a checkpoint that HEAD does not list, or
	// not any more.
	Unlisted Reason = "unlisted"
	// Unused is an object that no live checkpoint keeps.
	Unused Reason = "unused"
	// EarlierEpoch is an object that no live checkpoint keeps and whose owner
	// was replaced before it could commit it.
	EarlierEpoch Reason = "earlier-epoch"
	// ExpiredPin is the pin of a reader that stopped renewing it.
	ExpiredPin Reason = "expired-pin"
	// Leftover is an object of a check of the store that did not end.
	Leftover Reason = "leftover"
)

// Reasons for waiting.
const (
	// InFlight is an object that a checkpoint under way may be about to name.
	InFlight Reason = "in-flight"
	// Pinned is the manifest of an unlinked checkpoint that is being read.
	Pinned Reason = "pinned"
)

var reasonTexts = map[Reason]string{
	Unlisted:     "manifest of a checkpoint that is not listed",
	Unused:       "kept by no listed checkpoint",
	EarlierEpoch: "left by an earlier owner of the job, kept by no listed checkpoint",
	ExpiredPin:   "pin of a reader that went away",
	Leftover:     "left by a check of the store",
	InFlight:     "may belong to a checkpoint under way",
	Pinned:       "unlinked, but being read",
}

// Text is the reason in words.
func (r Reason) Text() string {
	if s, ok := reasonTexts[r]; ok {
		return s
	}
	return string(r)
}

// Item is one stored object that a plan speaks of.
type Item struct {
	Key    string `json:"key"`  // relative to the job's prefix
	Size   int64  `json:"size"` // of the stored bytes
	Reason Reason `json:"reason"`
}

// PlanFormat is the version of a plan's JSON form.
const PlanFormat = 1

// Plan is what may be deleted from a job's store, in the order to delete it,
// as a value: to print, to look at and to apply, once or several times, now or
// later. Its JSON form is stable.
type Plan struct {
	Format int            `json:"format"`
	Job    string         `json:"job"`
	UUID   string         `json:"uuid"`
	Epoch  manifest.Epoch `json:"epoch"`  // of HEAD when the plan was made
	Newest manifest.ID    `json:"newest"` // checkpoint listed then; 0 if none
	// Unlink are the listed checkpoints that must be unlinked before the plan
	// is applied.
	Unlink []manifest.ID `json:"unlink"`
	// Live are the ids of the other listed checkpoints, ascending.
	Live []manifest.ID `json:"live"`
	// Pinned are the ids of unlinked checkpoints that are still being read.
	Pinned []manifest.ID `json:"pinned"`
	// Deletes are manifests first, then data objects, then the rest.
	Deletes []Item `json:"deletes"`
	// Waiting are objects that nothing live keeps and that may not go yet.
	Waiting []Item `json:"waiting"`
	// Foreign are keys below the job's manifests and data that ckpt did not
	// name. They are never deleted.
	Foreign []string `json:"foreign"`
}

// Bytes is the size of all that the plan deletes.
func (p *Plan) Bytes() int64 { return totalBytes(p.Deletes) }

func totalBytes(items []Item) int64 {
	var n int64
	for _, it := range items {
		n += it.Size
	}
	return n
}

// probeAge is how old, by the store's clock, an object of a check of the store
// must be to count as left over. The check itself takes seconds, and an
// early deletion only makes it fail.
const probeAge = time.Hour

// NewPlan looks at everything a job has stored and returns what may be deleted;
// with unlink, what could be if those checkpoints were unlinked. store is that
// of the job, as given to cat. It writes nothing.
//
// Errors are those of the catalog (a job without HEAD is not found, and
// nothing of it is deleted) and of the listing.
func NewPlan(ctx context.Context, cat *catalog.Catalog, store objectstore.Store, unlink ...manifest.ID) (*Plan, error) {
	l, err := readLive(ctx, cat, store, newPartSet(), unlink...)
	if err != nil {
		return nil, fmt.Errorf("plan deletion: %w", err)
	}
	p, err := newPlan(ctx, l, store)
	if err != nil {
		return nil, fmt.Errorf("plan deletion: %w", err)
	}
	return p, nil
}

func newPlan(ctx context.Context, l *live, store objectstore.Store) (*Plan, error) {
	p := &Plan{
		Format: PlanFormat, Job: l.head.Job, UUID: l.head.UUID, Epoch: l.head.Epoch, Newest: l.newest(),
		Unlink: l.unlink, Live: l.listed(), Pinned: l.pinned(),
		Deletes: []Item{}, Waiting: []Item{}, Foreign: []string{},
	}
	for _, prefix := range []string{manifest.ManifestsPrefix, manifest.DataPrefix} {
		for info, err := range store.List(ctx, prefix, "") {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", prefix, err)
			}
			p.place(l, info)
		}
	}
	for _, key := range l.expiredPins {
		p.Deletes = append(p.Deletes, Item{Key: key, Reason: ExpiredPin})
	}
	for info, err := range store.List(ctx, manifest.ProbePrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", manifest.ProbePrefix, err)
		}
		if info.Date.Sub(info.LastModified) > probeAge {
			p.Deletes = append(p.Deletes, Item{Key: info.Key, Size: info.Size, Reason: Leftover})
		}
	}
	return p, nil
}

// place puts one stored manifest or data object where it belongs.
func (p *Plan) place(l *live, info objectstore.Info) {
	it := Item{Key: info.Key, Size: info.Size}
	var known bool
	if it.Reason, known = l.judge(info.Key); !known {
		p.Foreign = append(p.Foreign, info.Key)
		return
	}
	switch it.Reason {
	case "":
	case InFlight, Pinned:
		p.Waiting = append(p.Waiting, it)
	default:
		p.Deletes = append(p.Deletes, it)
	}
}

// judge says what is to be done with a stored manifest or data object: a reason
// to delete it or to wait, or "" if it is live. known is false for a name that
// is not one of ours.
func (l *live) judge(key string) (r Reason, known bool) {
	isManifest := strings.HasPrefix(key, manifest.ManifestsPrefix)
	var id manifest.ID
	var epoch manifest.Epoch
	if isManifest {
		var err error
		if id, epoch, err = manifest.ParseManifestKey(key); err != nil {
			return "", false
		}
	} else {
		var err error
		if id, epoch, err = manifest.WrittenFor(key); err != nil {
			return "", false
		}
	}
	kept, ok := l.keys[key]
	switch {
	case ok && kept == byPin && isManifest:
		return Pinned, true
	case ok:
		return "", true
	case epoch > l.head.Epoch, epoch == l.head.Epoch && id > l.newest():
		return InFlight, true
	case isManifest:
		return Unlisted, true
	case epoch < l.head.Epoch:
		return EarlierEpoch, true
	default:
		return Unused, true
	}
}
