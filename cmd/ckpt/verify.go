package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/objectstore"
)

// verifyDoc is what verify found.
type verifyDoc struct {
	Job         string        `json:"job"`
	Quick       bool          `json:"quick"`
	Checkpoints []verifiedDoc `json:"checkpoints"`
	Objects     int           `json:"objects"`
	Bytes       int64         `json:"bytes"`
	Damaged     []damageDoc   `json:"damaged"`
}

type verifiedDoc struct {
	ID manifest.ID `json:"id"`
	OK bool        `json:"ok"`
}

// damageDoc is a missing or damaged object and the checkpoints that it touches.
type damageDoc struct {
	Key         string        `json:"key"` // relative to the store URL
	Problem     string        `json:"problem"`
	Checkpoints []manifest.ID `json:"checkpoints"`
}

const verifyHelp = `Check that every object which a checkpoint keeps alive is in the store and is
what was written: by its SHA-256, for which every byte is read, or with --quick
only by its size. Without REF, or with "all", every checkpoint is checked;
each object once, however many checkpoints share it.

It fails with exit status 3 if anything is missing or damaged, and names each
such object and the checkpoints that the damage touches.

--json prints an object:
  job, quick
  checkpoints  array of {id, ok}
  objects, bytes
               how many were checked, manifests included, and their size
  damaged      array of {key, problem, checkpoints}: key is relative to the
               store URL, checkpoints are the ids it touches`

func (a *app) verifyCommand() *cobra.Command {
	var quick bool
	cmd := &cobra.Command{
		Use:   "verify [REF|all]",
		Short: "Check every object of a checkpoint, or of all",
		Long:  verifyHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("verify: want at most one REF")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.close()
			return s.verify(cmd.Context(), append(args, "all")[0], quick)
		},
	}
	cmd.Flags().BoolVar(&quick, "quick", false, "compare sizes only, reading nothing")
	return cmd
}

func (s *session) verify(ctx context.Context, ref string, quick bool) error {
	entries, err := s.entries(ctx, ref)
	if err != nil {
		return err
	}
	v := &verifier{session: s, quick: quick, holders: make(map[manifest.Object][]manifest.ID), damage: make(map[string]*damageDoc)}
	for _, e := range entries {
		if err := v.addCheckpoint(ctx, e); err != nil {
			return err
		}
	}
	if err := v.checkObjects(ctx); err != nil {
		return err
	}
	if err := v.forgetUnlinked(ctx, entries); err != nil {
		return err
	}
	doc := v.doc(entries)
	if err := s.app.printVerify(doc); err != nil {
		return err
	}
	return damageError(doc, ref == "all")
}

// entries are the checkpoints that ref names: one, or all of them.
func (s *session) entries(ctx context.Context, ref string) ([]catalog.Entry, error) {
	if ref == "all" {
		head, err := s.head(ctx)
		return head.Checkpoints, err
	}
	e, err := s.resolve(ctx, ref)
	return []catalog.Entry{e}, err
}

// verifier is one run of verify.
type verifier struct {
	*session
	quick   bool
	holders map[manifest.Object][]manifest.ID // each object once
	objects int
	bytes   int64

	mu     sync.Mutex
	damage map[string]*damageDoc // by key relative to the job
}

// addCheckpoint notes what a checkpoint names. A manifest, or a pack of its
// parts, that is missing or damaged is a finding, not an error.
func (v *verifier) addCheckpoint(ctx context.Context, e catalog.Entry) error {
	err := v.addObjects(ctx, e)
	if corrupt, ok := errors.AsType[*manifest.CorruptError](err); ok {
		v.report(corrupt.Key, problemOf(corrupt.Err), []manifest.ID{e.ID})
		return nil
	}
	return err
}

func (v *verifier) addObjects(ctx context.Context, e catalog.Entry) error {
	o, err := v.cat.Outline(ctx, e)
	if err != nil {
		return err
	}
	v.objects++
	v.bytes += e.ManifestSize
	seen := make(map[string]bool)
	add := func(o manifest.Object) {
		// What was reserved while it was uploaded is not needed, and may never
		// have come to be.
		if !seen[o.Key] && !o.Unfinished() {
			seen[o.Key] = true
			v.holders[o] = append(v.holders[o], e.ID)
		}
	}
	for _, pack := range o.Packs() {
		add(pack)
	}
	for at, err := range v.cat.Tasks(ctx, o) {
		if err != nil {
			return err
		}
		for o := range at.Task.Objects() {
			add(o)
		}
	}
	return nil
}

// verifyParallel is how many objects are read at a time.
const verifyParallel = 8

func (v *verifier) checkObjects(ctx context.Context) error {
	var total int64
	for o := range v.holders {
		total += o.Size
	}
	bar := v.app.newProgress("verify", total, true)
	defer bar.done()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(verifyParallel)
	for o, ids := range v.holders {
		v.objects++
		v.bytes += o.Size
		g.Go(func() error {
			problem, err := v.checkObject(ctx, o)
			if err != nil {
				return fmt.Errorf("check object %q: %w", o.Key, err)
			}
			if problem != "" {
				v.report(o.Key, problem, ids)
			}
			bar.add(o.Size)
			return nil
		})
	}
	return g.Wait()
}

// checkObject says what is wrong with an object, or "". An error is one of the
// store, which says nothing about the object.
func (v *verifier) checkObject(ctx context.Context, o manifest.Object) (string, error) {
	var size int64
	if v.quick {
		info, err := v.store.Stat(ctx, o.Key)
		if err != nil {
			return problem(err)
		}
		size = info.Size
	} else {
		r, info, err := v.store.Get(ctx, o.Key, 0, -1)
		if err != nil {
			return problem(err)
		}
		defer r.Close()
		if size = info.Size; size == o.Size {
			return checkDigest(r, o)
		}
	}
	if size != o.Size {
		return fmt.Sprintf("size is %d bytes, want %d", size, o.Size), nil
	}
	return "", nil
}

// problem tells what an error says about the object from one of the store.
func problem(err error) (string, error) {
	switch {
	case errors.Is(err, objectstore.ErrNotExist):
		return "missing", nil
	case errors.Is(err, objectstore.ErrNotEncrypted):
		return "not encrypted", nil
	case errors.Is(err, objectstore.ErrDamaged):
		return objectstore.ErrDamaged.Error(), nil
	}
	return "", err
}

func checkDigest(r io.Reader, o manifest.Object) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return problem(err)
	}
	if got := manifest.Digest(h.Sum(nil)); got != o.SHA256 {
		return fmt.Sprintf("SHA-256 is %s, want %s", got, o.SHA256), nil
	}
	return "", nil
}

func problemOf(err error) string {
	if errors.Is(err, objectstore.ErrNotExist) {
		return "missing"
	}
	return err.Error()
}

func (v *verifier) report(key, problem string, ids []manifest.ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.damage[key]
	if d == nil {
		d = &damageDoc{Key: v.app.storeKey(key), Problem: problem}
		v.damage[key] = d
	}
	for _, id := range ids {
		// A pack may be found damaged twice: when it is read for the tasks in
		// it, and with all objects.
		if !slices.Contains(d.Checkpoints, id) {
			d.Checkpoints = append(d.Checkpoints, id)
		}
	}
}

// forgetUnlinked drops what was found on checkpoints that a running job has
// retired meanwhile: their objects are gone for a good reason.
func (v *verifier) forgetUnlinked(ctx context.Context, entries []catalog.Entry) error {
	if len(v.damage) == 0 {
		return nil
	}
	head, err := v.cat.Head(ctx)
	if err != nil {
		return err
	}
	for key, d := range v.damage {
		d.Checkpoints = slices.DeleteFunc(d.Checkpoints, func(id manifest.ID) bool {
			_, listed := head.Find(id)
			return !listed
		})
		if len(d.Checkpoints) == 0 {
			delete(v.damage, key)
		}
	}
	for _, e := range entries {
		if _, listed := head.Find(e.ID); !listed {
			v.app.note("checkpoint %d was retired meanwhile", e.ID)
		}
	}
	return nil
}

func (v *verifier) doc(entries []catalog.Entry) verifyDoc {
	doc := verifyDoc{
		Job: v.app.job, Quick: v.quick, Objects: v.objects, Bytes: v.bytes,
		Checkpoints: []verifiedDoc{}, Damaged: []damageDoc{},
	}
	touched := make(map[manifest.ID]bool)
	for _, d := range v.damage {
		slices.Sort(d.Checkpoints)
		d.Checkpoints = slices.Compact(d.Checkpoints)
		for _, id := range d.Checkpoints {
			touched[id] = true
		}
		doc.Damaged = append(doc.Damaged, *d)
	}
	slices.SortFunc(doc.Damaged, func(a, b damageDoc) int { return strings.Compare(a.Key, b.Key) })
	for _, e := range entries {
		doc.Checkpoints = append(doc.Checkpoints, verifiedDoc{e.ID, !touched[e.ID]})
	}
	return doc
}

func (a *app) printVerify(doc verifyDoc) error {
	if a.json {
		return a.printJSON(doc)
	}
	if len(doc.Damaged) > 0 {
		t := newTable(a.stdout, "key", "problem", "checkpoints")
		for _, d := range doc.Damaged {
			t.AppendRow([]any{printable(d.Key), printable(d.Problem), idsText(d.Checkpoints)})
		}
		t.Render()
		return nil
	}
	how := "size and SHA-256 of each are right"
	if doc.Quick {
		how = "size of each is right"
	}
	fmt.Fprintf(a.stdout, "%s, %s, %s: %s\n", count(len(doc.Checkpoints), "checkpoint"),
		count(doc.Objects, "object"), bytesText(doc.Bytes), how)
	return nil
}

// damageError sums up what verify found; nil if nothing is damaged. all says
// that every checkpoint was looked at.
func damageError(doc verifyDoc, all bool) error {
	if len(doc.Damaged) == 0 {
		return nil
	}
	var touched, whole []manifest.ID
	for _, c := range doc.Checkpoints {
		if c.OK {
			whole = append(whole, c.ID)
		} else {
			touched = append(touched, c.ID)
		}
	}
	first := doc.Damaged[0]
	err := fmt.Errorf("%w: %s missing or damaged, %q among them (%s); checkpoints touched: %s",
		manifest.ErrCorrupt, count(len(doc.Damaged), "object"), first.Key, first.Problem, idsText(touched))
	switch {
	case len(whole) > 0:
		return withHint(err, "not touched: %s", idsText(whole))
	case all:
		return withHint(err, "no checkpoint is whole: put the objects back, from a backup or the bucket's versioning")
	}
	return err
}
