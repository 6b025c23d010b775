package seal

import "sync"

// maxHeaders is how many headers a generation of the cache holds.
const maxHeaders = 4096

// headers remembers those that were read last, in two generations.
type headers struct {
	mu       sync.Mutex
	new, old map[string]*opened
}

func (h *headers) get(key string) *opened {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o := h.new[key]; o != nil {
		return o
	}
	o := h.old[key]
	if o != nil {
		h.add(key, o)
	}
	return o
}

func (h *headers) put(key string, o *opened) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(key, o)
}

func (h *headers) add(key string, o *opened) {
	if h.new == nil || len(h.new) >= maxHeaders {
		h.new, h.old = make(map[string]*opened), h.new
	}
	h.new[key] = o
}

func (h *headers) forget(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.new, key)
	delete(h.old, key)
}
