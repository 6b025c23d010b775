package engine

import (
	"sync"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/manifest"
)

// message is a signal of the coordinator to a task: exactly one field is set.
type message struct {
	trigger   *coordinator.Trigger
	completed manifest.ID
	aborted   manifest.ID
}

// mailbox holds signals until the task comes to them. It never blocks the
// coordinator.
type mailbox struct {
	wake func() // the task may be waiting

	mu       sync.Mutex
	messages []message
}

func (m *mailbox) post(msg message) {
	m.mu.Lock()
	m.messages = append(m.messages, msg)
	m.mu.Unlock()
	m.wake()
}

func (m *mailbox) take() []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.messages
	m.messages = nil
	return out
}
