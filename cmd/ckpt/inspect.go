package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// inspectDoc is one checkpoint in full.
type inspectDoc struct {
	checkpointDoc
	NumObjects int64         `json:"num_objects"`
	Job        string        `json:"job"`
	JobUUID    string        `json:"job_uuid"`
	Base       manifest.ID   `json:"base"`
	Manifest   objectDoc     `json:"manifest"`
	Operators  []operatorDoc `json:"operators"`
	Objects    []objectDoc   `json:"objects,omitzero"`
}

// objectDoc is a stored object. Key is relative to the store URL.
type objectDoc struct {
	Key    string          `json:"key"`
	Size   int64           `json:"size"`
	SHA256 manifest.Digest `json:"sha256"`
}

type operatorDoc struct {
	UID            string    `json:"uid"`
	Parallelism    int       `json:"parallelism"`
	MaxParallelism int       `json:"max_parallelism"`
	Hasher         string    `json:"hasher,omitempty"`
	Subtasks       []taskDoc `json:"subtasks"`
}

type taskDoc struct {
	Subtask   int           `json:"subtask"`
	KeyGroups *keyGroupsDoc `json:"key_groups,omitempty"`
	// Pieces, BaseFiles and Deltas count what the keyed state is made of.
	Pieces    int `json:"pieces"`
	BaseFiles int `json:"base_files"`
	Deltas    int `json:"deltas"`
	Reserved  int `json:"reserved"`
	Splits    int `json:"splits"`
	Handles   int `json:"handles"`

	StartDelay    time.Duration `json:"start_delay_ns"`
	Alignment     time.Duration `json:"alignment_ns"`
	Capture       time.Duration `json:"capture_ns"`
	Queue         time.Duration `json:"queue_ns"`
	Encode        time.Duration `json:"encode_ns"`
	Upload        time.Duration `json:"upload_ns"`
	Total         time.Duration `json:"total_ns"`
	ChangedBytes  int64         `json:"changed_bytes"`
	NewBytes      int64         `json:"new_bytes"`
	BaseBytes     int64         `json:"base_bytes"`
	FullBytes     int64         `json:"full_bytes"`
	NewObjects    int64         `json:"new_objects"`
	InFlightBytes int64         `json:"in_flight_bytes"`
}

type keyGroupsDoc struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

const inspectHelp = `Show one checkpoint: its operators and subtasks, what their state is made of,
and the figures of each.

--objects lists every stored object that the checkpoint keeps alive, reserved
ones and packs of the manifest's parts too, each once, with its key relative to the store URL. Without --json it
prints nothing else: key, size and SHA-256, one object a line.

--json prints an object:
  id, epoch, kind, time, t_max_ns, duration_ns, new_bytes, full_bytes, key_ids
                 as list does
  num_objects    how many objects a restore reads
  job, job_uuid
  base           id of the checkpoint it builds on; 0 if none
  manifest       {key, size, sha256}
  operators      array of {uid, parallelism, max_parallelism, hasher, subtasks},
                 where subtasks is an array of
                 {subtask, key_groups {first, last}, pieces, base_files, deltas,
                 reserved, splits, handles, start_delay_ns, alignment_ns,
                 capture_ns, queue_ns, encode_ns, upload_ns, total_ns,
                 changed_bytes, new_bytes, base_bytes, full_bytes, new_objects,
                 in_flight_bytes}; key_groups only with keyed state
  objects        with --objects: array of {key, size, sha256}, by key; sha256
                 is that of the whole stored object, in lower-case hex`

func (a *app) inspectCommand() *cobra.Command {
	var objects bool
	cmd := &cobra.Command{
		Use:   "inspect REF",
		Short: "Show one checkpoint in full",
		Long:  inspectHelp,
		Args:  refArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.close()
			entry, err := s.resolve(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			doc, err := s.inspect(cmd.Context(), entry, objects)
			if err != nil {
				return err
			}
			return a.printInspect(doc, objects)
		},
	}
	cmd.Flags().BoolVar(&objects, "objects", false, "list every object that the checkpoint keeps alive")
	return cmd
}

// inspect reads a checkpoint task by task.
func (s *session) inspect(ctx context.Context, e catalog.Entry, objects bool) (inspectDoc, error) {
	o, err := s.cat.Outline(ctx, e)
	if err != nil {
		return inspectDoc{}, err
	}
	m, a := o.Head(), s.app
	doc := inspectDoc{
		checkpointDoc: newCheckpointDoc(e), NumObjects: e.Objects,
		Job: m.Job, JobUUID: m.JobUUID, Base: m.Base,
		Manifest:  objectDoc{a.storeKey(e.ManifestKey()), e.ManifestSize, e.ManifestSHA256},
		Operators: make([]operatorDoc, len(m.Operators)),
	}
	for i, op := range m.Operators {
		doc.Operators[i] = newOperatorDoc(op)
	}
	seen := make(map[string]bool)
	add := func(o manifest.Object) error {
		if !objects || seen[o.Key] {
			return nil
		}
		seen[o.Key] = true
		o, err := s.stored(ctx, o)
		if errors.Is(err, objectstore.ErrNotExist) {
			return nil
		}
		doc.Objects = append(doc.Objects, objectDoc{a.storeKey(o.Key), o.Size, o.SHA256})
		return err
	}
	if objects {
		doc.Objects = []objectDoc{}
	}
	for _, p := range o.Packs() {
		if err := add(p); err != nil {
			return inspectDoc{}, err
		}
	}
	for at, err := range s.cat.Tasks(ctx, o) {
		if err != nil {
			return inspectDoc{}, err
		}
		doc.Operators[at.Operator].Subtasks[at.Task.Index] = newTaskDoc(at.Task)
		for o := range at.Task.Objects() {
			if err := add(o); err != nil {
				return inspectDoc{}, err
			}
		}
	}
	slices.SortFunc(doc.Objects, func(a, b objectDoc) int { return cmp.Compare(a.Key, b.Key) })
	return doc, nil
}

// stored is an object as it is in the store. Of one that was still being uploaded
// it is not known whether it is there (ErrNotExist), and what it holds.
func (s *session) stored(ctx context.Context, o manifest.Object) (manifest.Object, error) {
	if !o.Unfinished() {
		return o, nil
	}
	var err error
	if o.SHA256, err = s.digest(ctx, o.Key); err != nil {
		return o, fmt.Errorf("read reserved object: %w", err)
	}
	return o, nil
}

func (s *session) digest(ctx context.Context, key string) (d manifest.Digest, err error) {
	r, _, err := s.store.Get(ctx, key, 0, -1)
	if err != nil {
		return d, err
	}
	defer r.Close()
	h := sha256.New()
	_, err = io.Copy(h, r)
	return manifest.Digest(h.Sum(nil)), err
}

// storeKey makes a key of the job one of the store URL.
func (a *app) storeKey(key string) string { return a.job + "/" + key }

// newOperatorDoc has room for the subtasks.
func newOperatorDoc(op manifest.Operator) operatorDoc {
	return operatorDoc{
		UID: op.UID, Parallelism: op.Parallelism, MaxParallelism: op.MaxParallelism, Hasher: op.Hasher,
		Subtasks: make([]taskDoc, op.Parallelism),
	}
}

func newTaskDoc(t *manifest.Task) taskDoc {
	st := t.Stats
	doc := taskDoc{
		Subtask: t.Index, Reserved: len(t.Reserved), Splits: len(t.Splits), Handles: len(t.Handles),
		StartDelay: st.StartDelay, Alignment: st.Alignment, Capture: st.Capture, Queue: st.Queue,
		Encode: st.Encode, Upload: st.Upload, Total: st.Total,
		ChangedBytes: st.ChangedBytes, NewBytes: st.NewBytes, BaseBytes: st.BaseBytes, FullBytes: st.FullBytes,
		NewObjects: st.NewObjects, InFlightBytes: st.InFlightBytes,
	}
	if t.Keyed == nil {
		return doc
	}
	doc.KeyGroups = &keyGroupsDoc{t.Keyed.KeyGroups.First, t.Keyed.KeyGroups.Last}
	doc.Pieces, doc.Deltas = len(t.Keyed.Pieces), len(t.Keyed.Deltas)
	for _, p := range t.Keyed.Pieces {
		doc.Deltas += len(p.Deltas)
		if p.Base != nil {
			doc.BaseFiles += len(p.Base.Files)
		}
	}
	return doc
}

func (a *app) printInspect(doc inspectDoc, objects bool) error {
	switch {
	case a.json:
		return a.printJSON(doc)
	case objects:
		t := newTable(a.stdout, "key", "size", "sha256")
		for _, o := range doc.Objects {
			t.AppendRow([]any{printable(o.Key), o.Size, o.SHA256.String()})
		}
		t.Render()
		return nil
	}
	a.printSummary(doc)
	t := newTable(a.stdout, "operator", "subtask", "key groups", "base files", "deltas", "reserved", "splits",
		"handles", "start delay", "alignment", "capture", "upload", "total", "new", "full")
	for _, op := range doc.Operators {
		for _, st := range op.Subtasks {
			t.AppendRow(subtaskRow(op, st))
		}
	}
	t.Render()
	return nil
}

func (a *app) printSummary(doc inspectDoc) {
	t := newTable(a.stdout)
	t.ResetHeaders()
	rows := [][]any{
		{"checkpoint", uint64(doc.ID)},
		{"kind", printable(string(doc.Kind))},
		{"job", printable(doc.Job) + " (" + printable(doc.JobUUID) + ")"},
		{"epoch", uint64(doc.Epoch)},
		{"base", uint64(doc.Base)},
		{"time", timeText(doc.Time)},
		{"duration", durationText(doc.Duration)},
		{"t_max", durationText(doc.TMax)},
		{"new", bytesText(doc.NewBytes)},
		{"full", bytesText(doc.FullBytes)},
		{"objects", doc.NumObjects},
		{"manifest", printable(doc.Manifest.Key)},
	}
	if len(doc.KeyIDs) > 0 {
		rows = append(rows, []any{"keys", printable(strings.Join(doc.KeyIDs, ", "))})
	}
	for _, row := range append(rows, []any{"", ""}) {
		t.AppendRow(row)
	}
	t.Render()
}

func subtaskRow(op operatorDoc, st taskDoc) []any {
	groups := "-"
	if st.KeyGroups != nil {
		groups = manifest.KeyGroupRange(*st.KeyGroups).String()
	}
	return []any{
		printable(op.UID), st.Subtask, groups, st.BaseFiles, st.Deltas, st.Reserved, st.Splits, st.Handles,
		durationText(st.StartDelay), durationText(st.Alignment), durationText(st.Capture),
		durationText(st.Upload), durationText(st.Total), bytesText(st.NewBytes), bytesText(st.FullBytes),
	}
}
