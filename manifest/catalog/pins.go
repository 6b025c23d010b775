package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// PinInfo is a reader's pin as retention sees it.
type PinInfo struct {
	Key string // its object, relative to the job's prefix
	ID  manifest.ID
	// Expired says that its reader did not renew it in time: it guards
	// nothing, and may be deleted.
	Expired bool
}

const (
	// maxPin bounds the size of a pin in bytes.
	maxPin = 4 << 10
	// pinSlack is what two times of a store that counts in whole seconds may
	// be off from what they stand for.
	pinSlack = 2 * time.Second
)

// Pins lists the pins of all checkpoints. What it says holds for deletions
// that were made possible by an Unlink before the call. Names in the pins
// folder that are not ours are passed over.
func (c *Catalog) Pins(ctx context.Context) ([]PinInfo, error) {
	var pins []PinInfo
	for info, err := range c.store.List(ctx, manifest.PinsPrefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list pins: %w", err)
		}
		id, _, err := manifest.ParsePinKey(info.Key)
		if err != nil {
			continue
		}
		expired, err := c.pinExpired(ctx, info.Key)
		if errors.Is(err, objectstore.ErrNotExist) {
			continue // released meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list pins: %w", err)
		}
		pins = append(pins, PinInfo{Key: info.Key, ID: id, Expired: expired})
	}
	return pins, nil
}

// pinExpired compares two times of the store's own answer.
func (c *Catalog) pinExpired(ctx context.Context, key string) (bool, error) {
	data, info, err := objectstore.ReadAll(ctx, c.store, key, maxPin)
	if err != nil && !errors.Is(err, objectstore.ErrTooLarge) {
		return false, err
	}
	// A pin that nobody can read is honoured for as long as any may last.
	ttl := MaxPinTTL
	var body pinBody
	if json.Unmarshal(data, &body) == nil && 0 < body.TTL && body.TTL < MaxPinTTL.Milliseconds() {
		ttl = time.Duration(body.TTL) * time.Millisecond
	}
	if info.Date.IsZero() || info.LastModified.IsZero() {
		return false, nil
	}
	return info.Date.Sub(info.LastModified) > ttl+pinSlack, nil
}
