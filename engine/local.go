package engine

import (
	"errors"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/manifest"
)

// localDir is a job's part of the state directory:
//
//	<job>-<uuid>/LOCK     held by the process that uses it
//	<job>-<uuid>/objects  copies of stored objects, for the next start
//	<job>-<uuid>/<epoch>  working directories of one run
//
// The uuid is the job's own: local state of another job of the same name is
// never used (rule R1). A process that does not get the lock, because another one
// has yet to hear that it was replaced, works without copies and leaves alone
// what it finds. The lock dies with its process.
type localDir struct {
	path    string
	lock    io.Closer                 // nil: somebody else has it
	objects *incremental.LocalObjects // nil: none are kept
	ended   bool                      // the job will not be restored any more
}

const (
	localLock    = "LOCK"
	localObjects = "objects"
)

// enterLocal makes the local directory ready for a run, removes what earlier ones
// left behind, and returns the working directory. Nothing in it can fail the
// run: what cannot be removed only takes space.
func (r *runner) enterLocal(own *ownership) (work string) {
	l, head := &r.local, own.owner.Head()
	l.path = filepath.Join(r.dir, r.job.name+"-"+url.QueryEscape(head.UUID))
	work = filepath.Join(l.path, own.owner.Epoch().String())
	if l.lock == nil {
		var err error
		if l.lock, err = lockDir(l.path); err != nil {
			r.cfg.Logger.Warn("no local recovery: the state directory is in use", "dir", l.path, "error", err)
			return work
		}
	}
	r.sweepOtherJobs()
	sweepEpochs(l.path, own.owner.Epoch())
	l.objects = nil
	path := filepath.Join(l.path, localObjects)
	if r.cfg.LocalRecovery.Disabled || r.tempDir {
		os.RemoveAll(path)
		return work
	}
	objects := incremental.NewLocalObjects(path, incremental.LocalOptions{
		MaxBytes: r.cfg.LocalRecovery.MaxBytes, Logger: r.cfg.Logger,
	})
	if err := objects.Retain(keptAlive(own.from)); err != nil {
		r.cfg.Logger.Warn("no local recovery", "error", err)
		return work
	}
	l.objects = objects
	return work
}

func lockDir(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	return vfs.Default.Lock(filepath.Join(dir, localLock))
}

// keptAlive are the objects that a checkpoint names or reserves.
func keptAlive(m *manifest.Manifest) iter.Seq[manifest.Object] {
	return func(yield func(manifest.Object) bool) {
		if m == nil {
			return
		}
		for _, op := range m.Operators {
			for _, t := range op.Tasks {
				for o := range t.Keyed.NeededObjects() {
					if !yield(o) {
						return
					}
				}
				for _, o := range t.Reserved {
					if !yield(o) {
						return
					}
				}
			}
		}
	}
}

// sweepEpochs removes the working directories of runs before this one.
func sweepEpochs(dir string, ours manifest.Epoch) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if epoch, err := manifest.ParseEpoch(e.Name()); err == nil && epoch < ours {
			os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

// sweepOtherJobs removes what jobs of the same name left that no process runs
// any more.
func (r *runner) sweepOtherJobs() {
	entries, _ := os.ReadDir(r.dir)
	for _, e := range entries {
		dir := filepath.Join(r.dir, e.Name())
		id, ok := strings.CutPrefix(e.Name(), r.job.name+"-")
		if !ok || uuid.Validate(id) != nil || dir == r.local.path {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, localLock)); err != nil {
			continue
		}
		if lock, err := lockDir(dir); err == nil {
			os.RemoveAll(dir)
			lock.Close()
		}
	}
}

// leaveLocal lets go of the local directory. Of a job that has ended, or left no
// copies, nothing remains.
func (r *runner) leaveLocal() {
	l := &r.local
	if l.path == "" {
		return
	}
	n, _ := l.objects.Size()
	empty := l.ended || n == 0
	var err error
	if l.lock != nil && empty {
		err = errors.Join(os.RemoveAll(filepath.Join(l.path, localObjects)), os.RemoveAll(filepath.Join(l.path, localLock)))
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	if err != nil {
		r.cfg.Logger.Warn("leave state directory", "dir", l.path, "error", err)
	}
	if empty {
		os.Remove(l.path) // unless there is another process's part
	}
}

// countRestored adds what it took to restore one subtask.
func (x *execution) countRestored(s incremental.RestoreStats) {
	x.mu.Lock()
	defer x.mu.Unlock()
	sum := &x.restored
	sum.Objects += s.Objects
	sum.Bytes += s.Bytes
	sum.LocalObjects += s.LocalObjects
	sum.LocalBytes += s.LocalBytes
	sum.LocalDamaged += s.LocalDamaged
	sum.RemoteObjects += s.RemoteObjects
	sum.RemoteBytes += s.RemoteBytes
	sum.Fetch = max(sum.Fetch, s.Fetch)
	sum.Open = max(sum.Open, s.Open)
	sum.Ingest = max(sum.Ingest, s.Ingest)
}
