package retention

import (
	"context"
	"sync"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// part is what one task's part of a manifest names. Checkpoints in which the
// task is the same share it, so that the memory and the time that a job of many
// tasks takes go with what changes.
type part struct {
	digest  manifest.Digest
	objects []objectRef // each once
	uses    int         // checkpoints that a collector counts it for
}

// partSet finds the parts that were read before.
type partSet struct {
	mu    sync.Mutex
	known map[manifest.Digest]*part
}

func newPartSet() *partSet { return &partSet{known: make(map[manifest.Digest]*part)} }

func (s *partSet) get(d manifest.Digest) *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[d]
}

func (s *partSet) put(p *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[p.digest] = p
}

// drop forgets p, unless another one has taken its place.
func (s *partSet) drop(p *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[p.digest] == p {
		delete(s.known, p.digest)
	}
}

// readCheckpoint reads what a manifest keeps alive, task by task, passing over
// the parts in the set.
func readCheckpoint(ctx context.Context, store objectstore.Store, parts *partSet, o *manifest.Outline, size int64, by keeper) (checkpoint, error) {
	b := newBuilder(o.Head(), size, by, parts)
	var found *part // by the call of known for the place that is yielded next
	known := func(d manifest.Digest) bool {
		found = parts.get(d)
		return found != nil
	}
	for at, err := range o.TasksBut(known, catalog.Packs(ctx, store)) {
		switch {
		case err != nil:
			return checkpoint{}, err
		case at.Task == nil:
			b.parts = append(b.parts, found)
		default:
			b.task(at.Task, at.Part)
		}
	}
	return b.checkpoint, nil
}

// newCheckpoint is what a manifest in memory keeps alive; o is its outline if it
// has packs, or nil.
func newCheckpoint(m *manifest.Manifest, o *manifest.Outline, size int64, by keeper, parts *partSet) checkpoint {
	b := newBuilder(m, size, by, parts)
	for i := range m.Operators {
		for j := range m.Operators[i].Tasks {
			var d manifest.Digest
			if o != nil {
				d, _ = o.Part(i, j)
			}
			b.task(&m.Operators[i].Tasks[j], d)
		}
	}
	return b.checkpoint
}

// builder collects what a checkpoint keeps alive.
type builder struct {
	checkpoint
	set  *partSet
	seen map[string]struct{} // in objects
}

// newBuilder begins with the manifest and the packs it refers to.
func newBuilder(m *manifest.Manifest, size int64, by keeper, set *partSet) *builder {
	b := &builder{set: set, seen: make(map[string]struct{})}
	b.id, b.keptBy, b.manifest = m.ID, by, objectRef{manifest.ManifestKey(m.ID, m.Epoch), size}
	for _, o := range m.Packs {
		b.objects = once(b.objects, b.seen, o)
	}
	return b
}

// task adds a task, which stands in the part of digest d if that is not zero.
func (b *builder) task(t *manifest.Task, d manifest.Digest) {
	if d == (manifest.Digest{}) {
		for o := range t.Objects() {
			b.objects = once(b.objects, b.seen, o)
		}
		return
	}
	p := b.set.get(d)
	if p == nil {
		p = &part{digest: d}
		seen := make(map[string]struct{})
		for o := range t.Objects() {
			p.objects = once(p.objects, seen, o)
		}
		b.set.put(p)
	}
	b.parts = append(b.parts, p)
}

func once(list []objectRef, seen map[string]struct{}, o manifest.Object) []objectRef {
	if _, ok := seen[o.Key]; ok {
		return list
	}
	seen[o.Key] = struct{}{}
	return append(list, objectRef{o.Key, o.Size})
}
