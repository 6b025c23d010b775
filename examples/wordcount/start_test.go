package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// TestStartBesideTheFirstCommit reads HEAD just before another process commits
// the job's first checkpoint, whose output is there at once.
func TestStartBesideTheFirstCommit(t *testing.T) {
	c := config{input: opticks, output: t.TempDir(), job: "wordcount"}
	store := storetest.NewFaulty(objectstore.NewMem(), 0, storetest.Rule{
		Op: storetest.Get, Key: "HEAD$",
		Do: storetest.At(storetest.After, func(_ context.Context, call storetest.Call) error {
			if err := os.WriteFile(filepath.Join(c.output, "part-0-1"), []byte("word\t1\n"), 0o600); err != nil {
				t.Error(err)
			}
			return call.Err
		}),
	})
	if _, err := checkStart(t.Context(), c, store); err != nil {
		t.Errorf("refused: %v", err)
	}
	if _, err := checkStart(t.Context(), c, store); err == nil {
		t.Error("output that no checkpoint covers was accepted")
	}
}
