package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/incremental"
	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// restoreDoc is what restore wrote.
type restoreDoc struct {
	Job      string         `json:"job"`
	ID       manifest.ID    `json:"id"`
	Epoch    manifest.Epoch `json:"epoch"`
	Dir      string         `json:"dir"`
	Subtasks []restoredDoc  `json:"subtasks"`
	Bytes    int64          `json:"bytes"`
	Duration time.Duration  `json:"duration_ns"`
}

type restoredDoc struct {
	Operator  string       `json:"operator"`
	Subtask   int          `json:"subtask"`
	KeyGroups keyGroupsDoc `json:"key_groups"`
	Dir       string       `json:"dir"`
	Objects   int64        `json:"objects"`
	Bytes     int64        `json:"bytes"`
}

const restoreHelp = `Write the keyed state of a checkpoint as Pebble databases, one for each subtask:
DIR/<operator>/<subtask>/. They open with plain Pebble v2 and default options;
a key begins with its key group (2 bytes, big-endian). A backup of a Pebble
database of your own comes back as it was: open it with your options.

DIR must not exist or be empty. Every object is compared with its size and
SHA-256 before Pebble sees it. DIR appears when everything is in it: a command
that failed leaves nothing. While it runs, a pin keeps the checkpoint from being
deleted; credentials that may not write do without, and say so.

--json prints an object:
  job, id, epoch
  dir        DIR, absolute
  subtasks   array of {operator, subtask, key_groups {first, last}, dir,
             objects, bytes}; objects and bytes are what was read for it
  bytes      read in all
  duration_ns`

func (a *app) restoreCommand() *cobra.Command {
	var to, task string
	cmd := &cobra.Command{
		Use:   "restore REF --to DIR",
		Short: "Write the state of a checkpoint as Pebble databases",
		Long:  restoreHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return fmt.Errorf("restore: no directory given: use --to DIR")
			}
			return refArg(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.close()
			return s.restore(cmd.Context(), args[0], to, task)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`directory` to make; it must not exist or be empty")
	cmd.Flags().StringVar(&task, "task", "", "restore only one subtask: `OPERATOR/N`")
	return cmd
}

// restoreTries bounds how often an unpinned restore of the newest checkpoint
// begins again because a running job retired it.
const restoreTries = 3

func (s *session) restore(ctx context.Context, ref, to, task string) error {
	for try := 1; ; try++ {
		entry, err := s.resolve(ctx, ref)
		if err != nil {
			return err
		}
		doc, err := s.restoreEntry(ctx, entry, to, task)
		switch {
		case err == nil:
			return s.app.printRestore(doc)
		case !errors.Is(err, manifest.ErrCorrupt) && !errors.Is(err, catalog.ErrNotFound):
			return err
		}
		head, herr := s.cat.Head(ctx)
		if herr != nil {
			return err
		}
		if _, listed := head.Find(entry.ID); listed {
			return s.touched(ctx, head, err)
		}
		if ref != "latest" || try == restoreTries {
			return withHint(fmt.Errorf("checkpoint %d was retired while it was read: %w", entry.ID, catalog.ErrNotFound),
				"ckpt list names those that are left")
		}
		s.app.note("checkpoint %d was retired while it was read; beginning again with the newest", entry.ID)
	}
}

// restoreEntry restores one checkpoint under a pin.
func (s *session) restoreEntry(ctx context.Context, entry catalog.Entry, to, task string) (restoreDoc, error) {
	out, err := newOutputDir(to)
	if err != nil {
		return restoreDoc{}, err
	}
	defer out.discard()
	o, err := s.cat.Outline(ctx, entry)
	if err != nil {
		return restoreDoc{}, err
	}
	states, err := s.states(ctx, o, task)
	if err != nil {
		return restoreDoc{}, err
	}
	ctx, release, err := s.pin(ctx, entry)
	if err != nil {
		return restoreDoc{}, err
	}
	defer release()
	doc, err := s.restoreStates(ctx, entry, states, out)
	if err != nil {
		// A lost pin cancels ctx: that is then the cause to tell of.
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, manifest.ErrCorrupt) {
			err = cause
		}
		return doc, fmt.Errorf("restore checkpoint %d: %w", entry.ID, err)
	}
	return doc, out.commit()
}

// state is the keyed state of one subtask.
type state struct {
	operator string
	subtask  int
	keyed    manifest.KeyedState
}

// bytes is what a restore reads: each object once.
func (st state) bytes() int64 {
	seen := make(map[string]bool)
	var n int64
	for o := range st.keyed.ContentObjects() {
		if !seen[o.Key] {
			seen[o.Key] = true
			n += o.Size
		}
	}
	return n
}

// states are the keyed states of a checkpoint; with task, OPERATOR/N, only that
// one.
func (s *session) states(ctx context.Context, o *manifest.Outline, task string) ([]state, error) {
	if task != "" {
		st, err := s.stateOf(ctx, o, task)
		return []state{st}, err
	}
	var states []state
	ops := o.Head().Operators
	for at, err := range s.cat.Tasks(ctx, o) {
		if err != nil {
			return nil, err
		}
		if at.Task.Keyed != nil {
			states = append(states, state{ops[at.Operator].UID, at.Task.Index, *at.Task.Keyed})
		}
	}
	slices.SortFunc(states, func(a, b state) int {
		return cmp.Or(strings.Compare(a.operator, b.operator), cmp.Compare(a.subtask, b.subtask))
	})
	return states, nil
}

// stateOf reads the one keyed state that task names.
func (s *session) stateOf(ctx context.Context, o *manifest.Outline, task string) (state, error) {
	uid, n, ok := strings.Cut(task, "/")
	if !ok || !manifest.ValidUID(uid) || !isNumber(n) {
		return state{}, exit.Usagef("--task %q: want OPERATOR/N", task)
	}
	var names []string
	for _, op := range o.Head().Operators {
		for i := range op.Parallelism {
			if op.Hasher != "" {
				names = append(names, op.UID+"/"+strconv.Itoa(i))
			}
		}
	}
	subtask, err := strconv.Atoi(n)
	if err == nil && slices.Contains(names, task) {
		t, err := s.cat.Task(ctx, o, uid, subtask)
		if err != nil {
			return state{}, err
		}
		return state{uid, subtask, *t.Keyed}, nil
	}
	err = fmt.Errorf("subtask %q with keyed state in checkpoint %d: %w", task, o.Head().ID, catalog.ErrNotFound)
	if len(names) == 0 {
		return state{}, withHint(err, "no operator of the checkpoint has keyed state")
	}
	return state{}, withHint(err, "there are %s", strings.Join(names, ", "))
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 31)
	return err == nil
}

// pinTTL is how long a pin of a process that died keeps a checkpoint from being
// deleted.
const pinTTL = 2 * time.Minute

// pin keeps entry from being deleted until release is called. The context ends
// when the pin is lost.
func (s *session) pin(ctx context.Context, entry catalog.Entry) (_ context.Context, release func(), err error) {
	pin, err := s.cat.Pin(ctx, entry, pinTTL)
	if errors.Is(err, objectstore.ErrPermission) {
		s.app.note("the credentials may not write a pin: a running job may delete checkpoint %d while it is read", entry.ID)
		return ctx, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	kept, cancel := context.WithCancel(pin.Keep(ctx))
	return kept, func() {
		cancel()
		// A pin that stays expires. It is removed also after an interrupt.
		late, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer stop()
		if err := pin.Release(late); err != nil {
			s.app.note("remove pin: %v", err)
		}
	}, nil
}

func (s *session) restoreStates(ctx context.Context, entry catalog.Entry, states []state, out *outputDir) (restoreDoc, error) {
	start := time.Now()
	doc := restoreDoc{Job: s.app.job, ID: entry.ID, Epoch: entry.Epoch, Dir: out.dir, Subtasks: []restoredDoc{}}
	var total int64
	for _, st := range states {
		total += st.bytes()
	}
	bar := s.app.newProgress("restore", total, true)
	defer bar.done()
	for _, st := range states {
		rel := filepath.Join(st.operator, strconv.Itoa(st.subtask))
		before := doc.Bytes
		stats, err := incremental.Restore(ctx, incremental.RestoreOptions{
			Store: s.store, State: st.keyed, Dir: filepath.Join(out.temp, rel),
			Progress: func(done, _ int64) { bar.set(before + done) },
		})
		if err != nil {
			return doc, fmt.Errorf("subtask %s/%d: %w", st.operator, st.subtask, out.classify(err))
		}
		doc.Bytes += stats.Bytes
		doc.Subtasks = append(doc.Subtasks, restoredDoc{
			Operator: st.operator, Subtask: st.subtask, KeyGroups: keyGroupsDoc(st.keyed.KeyGroups),
			Dir: filepath.Join(out.dir, rel), Objects: stats.Objects, Bytes: stats.Bytes,
		})
	}
	doc.Duration = time.Since(start)
	return doc, nil
}

// touched adds to the error about a damaged object which checkpoints hold it
// and which do not.
func (s *session) touched(ctx context.Context, head catalog.Head, err error) error {
	key := corruptKey(err)
	if key == "" {
		return err
	}
	var with, without []manifest.ID
	for _, e := range head.Checkpoints {
		if e.ManifestKey() == key || s.holds(ctx, e, key) {
			with = append(with, e.ID)
		} else {
			without = append(without, e.ID)
		}
	}
	err = fmt.Errorf("%w; checkpoints touched: %s", err, idsText(with))
	if len(without) == 0 {
		return withHint(err, "no checkpoint is whole; ckpt verify all names every damaged object")
	}
	return withHint(err, "not touched: %s", idsText(without))
}

// corruptKey is the damaged object that err names, relative to the job.
func corruptKey(err error) string {
	if c, ok := errors.AsType[*manifest.CorruptError](err); ok {
		return c.Key
	}
	return ""
}

// holds reports whether a checkpoint needs an object, or cannot be read to tell.
func (s *session) holds(ctx context.Context, e catalog.Entry, key string) bool {
	o, err := s.cat.Outline(ctx, e)
	if err != nil || slices.ContainsFunc(o.Packs(), func(p manifest.Object) bool { return p.Key == key }) {
		return true
	}
	for at, err := range s.cat.Tasks(ctx, o) {
		if err != nil {
			return true
		}
		for o := range at.Task.Objects() {
			if o.Key == key {
				return true
			}
		}
	}
	return false
}

func (a *app) printRestore(doc restoreDoc) error {
	if a.json {
		return a.printJSON(doc)
	}
	for _, t := range doc.Subtasks {
		fmt.Fprintln(a.stdout, printable(t.Dir))
	}
	if len(doc.Subtasks) == 0 {
		a.note("checkpoint %d has no keyed state: %s is empty", doc.ID, doc.Dir)
	}
	a.note("restored checkpoint %d: %s, %s read in %s", doc.ID, count(len(doc.Subtasks), "database"),
		bytesText(doc.Bytes), durationText(doc.Duration))
	return nil
}
