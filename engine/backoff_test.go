package engine_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// A job that waits for a restart is not made to wait when it is asked to stop:
// it gets one chance to stop in order, and then ends with its failure.
func TestF14_StopDuringBackoff(t *testing.T) {
	for _, recovers := range []bool{true, false} {
		t.Run(fmt.Sprint("recovers ", recovers), func(t *testing.T) {
			store, out := objectstore.NewMem(), newWorld()
			src := &numbers{splits: 1, records: 200, chunk: 20}
			stop := make(chan struct{})
			cfg := config(t, store, 1)
			cfg.Stop, cfg.Restart = stop, engine.FixedDelay(100, time.Hour)
			runs := 0
			cfg.Events.Failed = func(engine.Failed) {
				if runs++; runs == 1 {
					close(stop)
				}
			}
			// The last chance is the checkpoint to stop with, which may come before
			// the first record.
			src.onSnapshot = func(engine.SourceContext, manifest.ID) error {
				if runs > 0 && !recovers {
					return errInjected
				}
				return nil
			}
			job := counting(src, out, func(r record) (record, error) {
				if runs == 0 || !recovers {
					return r, errInjected
				}
				return r, nil
			})
			err := engine.Run(t.Context(), job, cfg)
			if recovers && err != nil {
				t.Fatalf("got %v, want a job that stopped", err)
			}
			if !recovers && (!errors.Is(err, errInjected) || runs != 2) {
				t.Fatalf("got %v after %d failures, want the failure after 2", err, runs)
			}
			src.onSnapshot = nil
			run(t, counting(src, out, nil), config(t, store, 1))
			out.check(t, 1, 200)
		})
	}
}

// What a restart would meet again is not tried again.
func TestPermanentFailureEndsTheJob(t *testing.T) {
	gone := engine.Permanent("input is gone for good")
	src := &numbers{splits: 1, records: 10, chunk: 5}
	src.onSnapshot = func(engine.SourceContext, manifest.ID) error { return fmt.Errorf("look: %w", gone) }
	failures := 0
	cfg := config(t, objectstore.NewMem(), 1)
	cfg.Events.Failed = func(f engine.Failed) {
		if failures++; f.Again {
			t.Errorf("%v is followed by a restart", f.Err)
		}
	}
	if err := engine.Run(t.Context(), counting(src, newWorld(), nil), cfg); !errors.Is(err, gone) || failures != 1 {
		t.Errorf("got %v after %d failures, want %v after 1", err, failures, gone)
	}
}
