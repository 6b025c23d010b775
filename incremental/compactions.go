package incremental

import (
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Compactions admits the compactions of all databases of a process: no more
// than a number at a time, and none of a database that is held. It may be used
// concurrently.
type Compactions struct {
	mu       sync.Mutex
	changed  sync.Cond // a call of a database has ended
	limit    int
	running  int
	paused   int
	members  []*Compactor // registered; asked in turn
	granting bool         // a goroutine does
}

// NewCompactions admits limit compactions at a time.
func NewCompactions(limit int) *Compactions {
	c := &Compactions{limit: max(1, limit)}
	c.changed.L = &c.mu
	return c
}

// Pause admits no further compaction of any database until resume is called as
// often: somebody waits for the machine.
func (c *Compactions) Pause() (resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.paused--
		c.grant()
	})
}

// Compactor is the part of Compactions that one database sees. It admits
// nothing while it is held.
type Compactor struct {
	all *Compactions

	// Guarded by the lock of all. It comes after Pebble's: no method of db
	// that locks is called with it.
	db      pebble.DBForCompaction // nil: not registered
	running int
	held    bool
	waiting bool // was refused since it was last asked
	asked   bool // a call of db is under way
}

// Compactor makes the one for a database, which is Options.Experimental's
// CompactionScheduler there.
func (c *Compactions) Compactor(held bool) *Compactor { return &Compactor{all: c, held: held} }

// Let ends the hold.
func (m *Compactor) Let() {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	m.held = false
	m.all.grant()
}

// Register implements pebble.CompactionScheduler.
func (m *Compactor) Register(_ int, db pebble.DBForCompaction) {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	m.db = db
	m.all.members = append(m.all.members, m)
}

// Unregister implements pebble.CompactionScheduler.
func (m *Compactor) Unregister() {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	m.all.members = slices.DeleteFunc(m.all.members, func(o *Compactor) bool { return o == m })
	for m.asked {
		m.all.changed.Wait()
	}
	m.db = nil
}

// TrySchedule implements pebble.CompactionScheduler.
func (m *Compactor) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	if !m.free() {
		m.waiting = true
		return false, nil
	}
	m.start()
	return true, m
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (m *Compactor) UpdateGetAllowedWithoutPermission() {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	m.all.grant()
}

// Started implements pebble.CompactionGrantHandle.
func (m *Compactor) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (m *Compactor) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (m *Compactor) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle.
func (m *Compactor) Done() {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	m.end()
	m.all.grant()
}

// free reports whether the database may start a compaction.
func (m *Compactor) free() bool {
	return !m.held && m.all.paused == 0 && m.db != nil && m.all.running < m.all.limit && m.running < m.db.GetAllowedWithoutPermission()
}

func (m *Compactor) start() {
	m.running++
	m.all.running++
}

func (m *Compactor) end() {
	m.running--
	m.all.running--
}

// grant offers what is free to databases that wait, on a goroutine of its own,
// since the caller may hold the lock of a database. It ends when there is
// nothing to offer, and Unregister waits for the call of its database.
func (c *Compactions) grant() {
	if c.granting || c.next() < 0 {
		return
	}
	c.granting = true
	go func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := c.next(); i >= 0; i = c.next() {
			m := c.members[i]
			// Last in turn.
			c.members = append(slices.Delete(c.members, i, i+1), m)
			c.offer(m)
		}
		c.granting = false
	}()
}

// next finds a database that waits and may start a compaction, or -1.
func (c *Compactions) next() int {
	return slices.IndexFunc(c.members, func(m *Compactor) bool { return m.waiting && m.free() })
}

// offer grants one compaction, with the lock held but for the calls.
func (c *Compactions) offer(m *Compactor) {
	m.waiting, m.asked = false, true
	m.start()
	db := m.db
	c.mu.Unlock()
	waiting, _ := db.GetWaitingCompaction()
	accepted := waiting && db.Schedule(m)
	c.mu.Lock()
	if accepted {
		m.waiting = true // Pebble does not ask again while it may have more
	} else {
		m.end()
	}
	m.asked = false
	c.changed.Broadcast()
}
