package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/retention"
)

// gcDoc is a plan and, if it was applied, what came of it.
type gcDoc struct {
	*retention.Plan
	Result *gcResult `json:"result,omitempty"`
}

type gcResult struct {
	Unlinked []manifest.ID `json:"unlinked"`
	retention.Result
	SweptTemps int `json:"swept_temps"`
}

const gcHelp = `Delete what no checkpoint of a job keeps alive: at once, and without asking. It may
run beside the job, as often as you like and several at a time, and needs no
grace time: nothing that is, or may still become, part of a checkpoint goes.

Checkpoints are unlinked only with --keep N, which keeps the newest N. Give at
least as many as the job may have pending at a time (one, by default): a pending
checkpoint whose base was unlinked fails.

  --dry-run     show what would go, each object with its reason, and change
                nothing
  --plan FILE   the same, written to FILE as JSON ("-": standard output)
  --apply FILE  apply such a file, however old ("-": standard input). What may
                not be deleted any more, or never might, is left out.

It stops, deleting nothing, when it meets a manifest that it cannot read.

--json prints an object, which is also the form of FILE:
  format     1
  job, uuid, epoch
             of the job, as its HEAD says
  newest     id of the newest checkpoint; 0 if none
  unlink     ids of the checkpoints that --keep unlinks
  live       ids of the others that are listed
  pinned     ids of unlinked checkpoints that are still being read
  deletes    array of {key, size, reason}; key is relative to the job; reason is
             "unlisted", "unused", "earlier-epoch", "expired-pin" or "leftover"
  waiting    array of the same that may not go yet: "in-flight" or "pinned"
  foreign    keys that ckpt did not make; they are never deleted
  result     when applied: {unlinked, deleted, deleted_bytes, failed,
             swept_temps}: ids, objects, bytes, objects that are still there,
             and temporary files of a file store that crashes left`

// gcFlags are the flags of gc.
type gcFlags struct {
	plan, apply string
	dryRun      bool
	keep        int
}

func (a *app) gcCommand() *cobra.Command {
	var f gcFlags
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Delete what no checkpoint keeps alive",
		Long:  gcHelp,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("keep") && f.keep < 1 {
				return fmt.Errorf("gc: --keep %d: want at least 1", f.keep)
			}
			return noArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.close()
			return s.gc(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.plan, "plan", "", "write what would go to `FILE`")
	flags.StringVar(&f.apply, "apply", "", "apply the plan in `FILE`")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would go")
	flags.IntVar(&f.keep, "keep", 0, "first unlink all checkpoints but the newest `N`")
	cmd.MarkFlagsMutuallyExclusive("plan", "apply", "dry-run")
	cmd.MarkFlagsMutuallyExclusive("apply", "keep")
	return cmd
}

func (s *session) gc(ctx context.Context, f gcFlags) error {
	if f.apply != "" {
		plan, err := s.app.readPlan(f.apply)
		if err != nil {
			return err
		}
		return s.applyPlan(ctx, plan)
	}
	head, err := s.head(ctx)
	if err != nil {
		return err
	}
	var unlink []manifest.ID
	if f.keep > 0 {
		unlink = retention.Policy{Keep: f.keep}.Retire(head.Checkpoints)
	}
	if f.plan == "" && !f.dryRun {
		return s.collect(ctx, unlink)
	}
	plan, err := retention.NewPlan(ctx, s.cat, s.store, unlink...)
	if err != nil {
		return err
	}
	if f.dryRun {
		return s.app.printGC(gcDoc{Plan: plan})
	}
	return s.app.writePlan(f.plan, plan)
}

// collect unlinks, and then deletes what nothing keeps. The pins are listed
// after the unlinking.
func (s *session) collect(ctx context.Context, unlink []manifest.ID) error {
	if err := s.unlink(ctx, unlink); err != nil {
		return err
	}
	plan, err := retention.NewPlan(ctx, s.cat, s.store)
	if err != nil {
		return err
	}
	return s.apply(ctx, plan, unlink)
}

// applyPlan applies a plan that was kept in a file.
func (s *session) applyPlan(ctx context.Context, plan *retention.Plan) error {
	if plan.Job != s.app.job {
		return exit.Usagef("the plan is for job %q, not %q", plan.Job, s.app.job)
	}
	head, err := s.head(ctx)
	if err != nil {
		return err
	}
	if head.UUID != plan.UUID {
		return withHint(fmt.Errorf("job %q: %w: it was made anew since", plan.Job, retention.ErrOtherJob), "make a new plan")
	}
	if err := s.unlink(ctx, plan.Unlink); err != nil {
		return err
	}
	checked, err := plan.Recheck(ctx, s.cat, s.store)
	if err != nil {
		return err
	}
	if n := len(plan.Deletes) - len(checked.Deletes); n > 0 {
		s.app.note("left out %s of the plan: kept alive, or not known to be garbage", count(n, "object"))
	}
	return s.apply(ctx, checked, plan.Unlink)
}

func (s *session) unlink(ctx context.Context, ids []manifest.ID) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := s.cat.Unlink(ctx, ids...)
	return err
}

// apply deletes what plan says and reports it, also if some of it failed.
func (s *session) apply(ctx context.Context, plan *retention.Plan, unlinked []manifest.ID) error {
	bar := s.app.newProgress("delete", int64(len(plan.Deletes)), false)
	res, err := retention.Apply(ctx, s.cat, s.store, plan, retention.ApplyOptions{
		Progress: func(p retention.Progress) { bar.set(int64(p.Done)) },
	})
	bar.done()
	if _, partly := errors.AsType[*objectstore.DeleteError](err); err != nil && !partly {
		return err
	}
	swept, serr := s.sweepTemps()
	doc := gcDoc{plan, &gcResult{Unlinked: append([]manifest.ID{}, unlinked...), Result: res, SweptTemps: swept}}
	if err := errors.Join(err, serr, s.app.printGC(doc)); err != nil {
		return withHint(err, "what failed stays for the next gc; run it again")
	}
	return nil
}

// tempAge is how long a temporary file of a file store must not have been
// written to, to count as left by a crash.
const tempAge = time.Hour

// sweepTemps removes what crashed writers left in a file store.
func (s *session) sweepTemps() (int, error) {
	sweeper, ok := s.root.(interface {
		SweepTemp(olderThan time.Duration) (int, error)
	})
	if !ok {
		return 0, nil
	}
	return sweeper.SweepTemp(tempAge)
}

func (a *app) readPlan(file string) (*retention.Plan, error) {
	if file == "-" {
		return retention.DecodePlan(a.stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, exit.Local(err)
	}
	defer f.Close()
	return retention.DecodePlan(f)
}

// writePlan writes the file whole or not at all.
func (a *app) writePlan(file string, plan *retention.Plan) error {
	if file == "-" {
		return plan.Encode(a.stdout)
	}
	if err := writeFile(file, plan.Encode); err != nil {
		return exit.Local(err)
	}
	a.note("%s (%s) would go; to delete them: ckpt gc --apply %s",
		count(len(plan.Deletes), "object"), bytesText(plan.Bytes()), file)
	return nil
}

func writeFile(name string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("write %q: not a regular file", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".tmp-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func (a *app) printGC(doc gcDoc) error {
	if a.json {
		return a.printJSON(doc)
	}
	if len(doc.Deletes) > 0 {
		t := newTable(a.stdout, "key", "size", "reason")
		for _, it := range doc.Deletes {
			t.AppendRow([]any{printable(it.Key), it.Size, it.Reason.Text()})
		}
		t.Render()
	}
	for _, key := range doc.Foreign {
		a.note("not made by ckpt, left alone: %s", key)
	}
	if len(doc.Waiting) > 0 {
		a.note("%s wait: they may belong to a checkpoint under way, or are being read", count(len(doc.Waiting), "object"))
	}
	if doc.Result == nil {
		if len(doc.Unlink) > 0 {
			a.note("would unlink checkpoints %s", idsText(doc.Unlink))
		}
		a.note("would delete %s, %s", count(len(doc.Deletes), "object"), bytesText(doc.Bytes()))
		return nil
	}
	a.noteResult(doc.Result)
	return nil
}

func (a *app) noteResult(r *gcResult) {
	if len(r.Unlinked) > 0 {
		a.note("unlinked checkpoints %s", idsText(r.Unlinked))
	}
	if r.SweptTemps > 0 {
		a.note("removed %s that crashes left", count(r.SweptTemps, "temporary file"))
	}
	a.note("deleted %s, %s; %d failed", count(r.Deleted, "object"), bytesText(r.DeletedBytes), r.Failed)
}
