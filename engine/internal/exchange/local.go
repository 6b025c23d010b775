package exchange

import (
	"context"
	"sync"
)

// Local is the exchange of one process: a bounded queue for each channel.
type Local struct {
	credit int
	gates  map[string][]*localGate // by task, then subtask
}

// NewLocal makes an exchange whose channels hold up to credit batches each. Its
// methods are not concurrent; the ends they return are.
func NewLocal(credit int) *Local {
	return &Local{credit: credit, gates: make(map[string][]*localGate)}
}

// Gate implements Exchange.
func (l *Local) Gate(task string, subtask, channels int) Gate {
	g := &localGate{credit: l.credit, channels: make([]channel, channels), wake: make(chan struct{}, 1)}
	for i := range g.channels {
		g.channels[i].space = make(chan struct{}, 1)
	}
	for len(l.gates[task]) <= subtask {
		l.gates[task] = append(l.gates[task], nil)
	}
	l.gates[task][subtask] = g
	return g
}

// Partitions implements Exchange.
func (l *Local) Partitions(e Edge, from int) Partitions {
	return &localPartitions{gates: l.gates[e.To], channel: e.First + from}
}

type localPartitions struct {
	gates   []*localGate
	channel int
}

func (p *localPartitions) Send(ctx context.Context, to int, b Batch) error {
	return p.gates[to].send(ctx, p.channel, b)
}

// localGate holds the queues of all channels of one task under one lock: it is
// taken once a batch, not once a record.
type localGate struct {
	credit int
	wake   chan struct{} // something may have become receivable

	mu       sync.Mutex
	channels []channel
	next     int // where the search for a batch begins, for fairness
	woken    bool
}

type channel struct {
	queue   []Batch
	head    int
	records int // batches of records in queue, which need credit
	blocked bool
	space   chan struct{} // credit came back
}

func (g *localGate) send(ctx context.Context, from int, b Batch) error {
	for {
		g.mu.Lock()
		c := &g.channels[from]
		if b.Records == nil || c.records < g.credit {
			c.push(b)
			g.mu.Unlock()
			signal(g.wake)
			return nil
		}
		g.mu.Unlock()
		select {
		case <-c.space:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *localGate) Recv(ctx context.Context) (int, Batch, error) {
	for {
		from, b, ok := g.take()
		switch {
		case !ok:
		case from < 0:
			return -1, Batch{}, ErrWoken
		default:
			return from, b, nil
		}
		select {
		case <-g.wake:
		case <-ctx.Done():
			return -1, Batch{}, ctx.Err()
		}
	}
}

// take returns the next batch, or -1 for a wake-up, or not ok.
func (g *localGate) take() (int, Batch, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.woken {
		g.woken = false
		return -1, Batch{}, true
	}
	i, ok := g.find()
	if !ok {
		return 0, Batch{}, false
	}
	c := &g.channels[i]
	b := c.pop()
	if b.Records != nil {
		signal(c.space)
	}
	g.next = i + 1
	return i, b, true
}

func (g *localGate) find() (int, bool) {
	for k := range g.channels {
		i := (g.next + k) % len(g.channels)
		if c := &g.channels[i]; !c.blocked && c.head < len(c.queue) {
			return i, true
		}
	}
	return 0, false
}

func (g *localGate) Pending() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.find()
	return ok || g.woken
}

func (g *localGate) Block(from int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.channels[from].blocked = true
}

func (g *localGate) UnblockAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.channels {
		g.channels[i].blocked = false
	}
}

func (g *localGate) Wake() {
	g.mu.Lock()
	g.woken = true
	g.mu.Unlock()
	signal(g.wake)
}

func (c *channel) push(b Batch) {
	if c.head > 0 && len(c.queue) == cap(c.queue) {
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
	c.queue = append(c.queue, b)
	if b.Records != nil {
		c.records++
	}
}

func (c *channel) pop() Batch {
	b := c.queue[c.head]
	c.queue[c.head] = Batch{}
	c.head++
	if c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	}
	if b.Records != nil {
		c.records--
	}
	return b
}

// signal leaves a token in a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
