package incremental

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// busyDB stands for a database that always has more to compact.
type busyDB struct {
	t       *testing.T
	all     *Compactions
	m       *Compactor
	allowed int

	mu      sync.Mutex
	running int
	todo    int
	refused bool
	work    sync.WaitGroup
}

func (d *busyDB) GetAllowedWithoutPermission() int { return d.allowed }

func (d *busyDB) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = d.refused && d.todo > 0
	return d.refused, pebble.WaitingCompaction{}
}

func (d *busyDB) Schedule(h pebble.CompactionGrantHandle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.todo == 0 {
		d.refused = false
		return false
	}
	d.start(h)
	return true
}

// start runs one compaction, with d.mu held.
func (d *busyDB) start(h pebble.CompactionGrantHandle) {
	d.todo--
	d.running++
	if d.running > d.allowed {
		d.t.Errorf("%d compactions of a database, it allows %d", d.running, d.allowed)
	}
	d.work.Go(func() {
		d.all.mu.Lock()
		if d.all.running > d.all.limit {
			d.t.Errorf("%d compactions, the limit is %d", d.all.running, d.all.limit)
		}
		d.all.mu.Unlock()
		d.mu.Lock()
		d.running--
		d.mu.Unlock()
		h.Done()
		d.schedule()
	})
}

// schedule does what Pebble does after a change.
func (d *busyDB) schedule() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.refused && d.todo > 0 {
		ok, h := d.m.TrySchedule()
		if !ok {
			d.refused = true
			return
		}
		d.start(h)
	}
}

// Every compaction of every database comes to its turn, no more at a time than
// the process and each database allow, and none of one that is held, or of any
// during a pause.
func TestCompactionsAreBounded(t *testing.T) {
	all := NewCompactions(3)
	var dbs []*busyDB
	for i := range 8 {
		d := &busyDB{t: t, all: all, allowed: 1 + i%2, todo: 200, m: all.Compactor(i < 4)}
		d.m.Register(2, d)
		dbs = append(dbs, d)
	}
	resume, again := all.Pause(), all.Pause()
	finishes(t, "compactions", func() {
		for _, d := range dbs {
			d.schedule()
		}
		again()
		again() // counts once
		for i, d := range dbs {
			if d.todo != 200 {
				t.Errorf("%d compactions of database %d during a pause", 200-d.todo, i)
			}
		}
		resume()
		for _, d := range dbs[4:] {
			for done := false; !done; {
				d.mu.Lock()
				done = d.todo == 0
				d.mu.Unlock()
			}
		}
		for _, d := range dbs[:4] {
			if d.todo != 200 {
				t.Errorf("%d compactions of a held database", 200-d.todo)
			}
			d.m.Let()
		}
		for _, d := range dbs {
			for done := false; !done; {
				d.mu.Lock()
				done = d.todo == 0
				d.mu.Unlock()
			}
			d.work.Wait()
			d.m.Unregister()
		}
	})
	if all.running != 0 || len(all.members) != 0 {
		t.Errorf("%d running, %d members are left", all.running, len(all.members))
	}
}

// Databases that share a limit of one compact what they have, and can be
// closed at any time.
func TestCompactionsOfDatabases(t *testing.T) {
	all := NewCompactions(1)
	finishes(t, "databases", func() {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				fs := NewRecordFS(vfs.NewMem())
				m := all.Compactor(i == 0)
				db, err := pebble.Open("/db", PebbleOptions(DBOptions{FS: fs, Scheduler: m}))
				if err != nil {
					t.Error(err)
					return
				}
				r := rand.New(rand.NewPCG(uint64(i), 1))
				for n := range 60 {
					path := fmt.Sprintf("/delta-%d", n)
					changes := map[string]string{}
					for range 20 {
						changes[fmt.Sprintf("\x00\x00%d", r.IntN(1000))] = "v"
					}
					if _, err := WriteDelta(fs, path, sorted(changes)); err != nil {
						t.Error(err)
					}
					if err := db.Ingest(t.Context(), []string{path}); err != nil {
						t.Error(err)
					}
				}
				if i > 1 {
					for db.Metrics().Compact.Count == 0 {
					}
				}
				if i == 0 && db.Metrics().Compact.Count != 0 {
					t.Error("a held database was compacted")
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}
