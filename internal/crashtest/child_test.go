//go:build unix

package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

// childEnv makes the test binary a job instead, the one its value describes.
const childEnv = "CRASHTEST_CHILD"

// child is a job that runs in a process of its own, and dies where it is told.
type child struct {
	miniature
	Store string // directory
	// Kill says where to die: a rule of storetest.ParseKill, or "at <nth>
	// <moment>" for a moment of miniature. Empty: nowhere.
	Kill string
}

func childMain() int {
	var c child
	err := json.Unmarshal([]byte(os.Getenv(childEnv)), &c)
	if err == nil {
		err = c.main()
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, engine.ErrFenced):
		return exitFenced
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func (c *child) main() error {
	store, err := file.Open(c.Store, file.Options{Create: true})
	if err != nil {
		return err
	}
	defer store.Close()
	faulty := storetest.NewFaulty(store, 0)
	moment, isMoment := strings.CutPrefix(c.Kill, "at ")
	switch {
	case isMoment:
		c.at, err = killAt(moment)
	case c.Kill != "":
		var rule storetest.Rule
		rule, err = storetest.ParseKill(c.Kill)
		faulty.Add(rule)
	}
	if err != nil {
		return err
	}
	return c.run(context.Background(), faulty, os.Stderr)
}

// killAt parses "<nth> <moment>".
func killAt(s string) (func(string), error) {
	nth, moment, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(nth, 10, 64)
	if err != nil {
		return nil, err
	}
	var seen atomic.Int64
	return func(m string) {
		if m == moment && seen.Add(1) == n {
			_ = storetest.Kill(context.Background(), storetest.Call{}) // does not return
		}
	}, nil
}
