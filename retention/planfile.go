package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// ErrBadPlan is a plan that ckpt cannot have written, or one of a version that
// it does not know.
var ErrBadPlan = errors.New("not a plan that can be applied")

// Encode writes the plan as indented JSON.
func (p *Plan) Encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(p); err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	return nil
}

// DecodePlan reads what Encode wrote and checks that it speaks only of a job's
// own objects, in the order in which they may be deleted. Whether they may
// still be deleted is for [Plan.Recheck] to say.
func DecodePlan(r io.Reader) (*Plan, error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	p := new(Plan)
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("read plan: %w: %w", ErrBadPlan, err)
	}
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("read plan: %w: %w", ErrBadPlan, err)
	}
	return p, nil
}

// validate accepts only keys that are made of a job's manifests, data, pins and
// probes: HEAD above all can never be deleted.
func (p *Plan) validate() error {
	if p.Format != PlanFormat {
		return fmt.Errorf("format %d, want %d", p.Format, PlanFormat)
	}
	if !manifest.ValidJob(p.Job) || p.UUID == "" {
		return fmt.Errorf("no valid job in it")
	}
	for i, it := range p.Deletes {
		if it.Size < 0 {
			return fmt.Errorf("object %q has size %d", it.Key, it.Size)
		}
		if !deletable(it.Key) {
			return fmt.Errorf("object %q is not one to delete", it.Key)
		}
		if i > 0 && isManifest(it) && !isManifest(p.Deletes[i-1]) {
			return fmt.Errorf("manifest %q stands behind data objects", it.Key)
		}
	}
	return nil
}

func deletable(key string) bool {
	if objectstore.ValidKey(key) != nil {
		return false
	}
	_, _, merr := manifest.ParseManifestKey(key)
	_, _, derr := manifest.WrittenFor(key)
	_, _, perr := manifest.ParsePinKey(key)
	return merr == nil || derr == nil || perr == nil || strings.HasPrefix(key, manifest.ProbePrefix)
}

// Recheck looks at HEAD and the live manifests as they are now and returns the
// plan without what may not be deleted. A plan that NewPlan made loses nothing,
// however old it is; one that was kept in a file may have been edited, or
// belong to another job ([ErrOtherJob]).
func (p *Plan) Recheck(ctx context.Context, cat *catalog.Catalog, store objectstore.Store) (*Plan, error) {
	l, err := readLive(ctx, cat, store, newPartSet())
	if err != nil {
		return nil, fmt.Errorf("recheck plan: %w", err)
	}
	if l.head.UUID != p.UUID || l.head.Job != p.Job {
		return nil, fmt.Errorf("recheck plan: %w: made for %q (%s), the store has %q (%s)",
			ErrOtherJob, p.Job, p.UUID, l.head.Job, l.head.UUID)
	}
	out := *p
	out.Deletes = slices.DeleteFunc(slices.Clone(p.Deletes), func(it Item) bool { return !l.mayDelete(it.Key) })
	return &out, nil
}

func (l *live) mayDelete(key string) bool {
	if strings.HasPrefix(key, manifest.PinsPrefix) {
		return slices.Contains(l.expiredPins, key)
	}
	if strings.HasPrefix(key, manifest.ProbePrefix) {
		return true
	}
	reason, known := l.judge(key)
	return known && reason != "" && reason != InFlight && reason != Pinned
}
