package engine

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
)

// ownership is a job taken over: what to run and what to go on from.
type ownership struct {
	owner *catalog.Owner
	plan  *plan
	from  *manifest.Manifest // nil: nothing
}

// takeOver makes this process the owner of the job. A graph that cannot go on
// from the job's state is refused with nothing changed.
func (r *runner) takeOver(ctx context.Context) (*ownership, error) {
	own := &ownership{}
	operators := make([]catalog.OperatorInfo, len(r.job.nodes))
	owner, err := r.catalog.TakeOver(ctx, catalog.TakeOverOptions{
		Operators: operators,
		Check: func(ctx context.Context, head catalog.Head) error {
			var err error
			if own.plan, own.from, err = r.check(ctx, head); err != nil {
				return err
			}
			copy(operators, own.plan.infos())
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	own.owner = owner
	return own, nil
}

// check lays out the graph and finds the checkpoint for the HEAD that is about
// to be taken over.
func (r *runner) check(ctx context.Context, head catalog.Head) (*plan, *manifest.Manifest, error) {
	if r.epoch != 0 && head.Epoch != r.epoch {
		// A failed run of ours does not take the job back from its successor.
		return nil, nil, fmt.Errorf("restart after epoch %d: epoch is %d: %w", r.epoch, head.Epoch, ErrFenced)
	}
	entry, ok, err := r.choose(ctx, head)
	if err != nil {
		return nil, nil, err
	}
	var from *manifest.Manifest
	if ok {
		if from, err = r.catalog.Manifest(ctx, entry); err != nil {
			return nil, nil, err
		}
	}
	p, err := newPlan(r.job, r.cfg.Parallelism, from)
	if err != nil {
		return nil, nil, err
	}
	if from == nil {
		return p, nil, nil // no state that would bind the graph
	}
	if reasons := p.incompatible(from, r.cfg.AllowNonRestoredState); len(reasons) > 0 {
		return nil, nil, &IncompatibleError{Job: r.job.name, Reasons: reasons}
	}
	return p, from, nil
}

// choose finds the checkpoint to go on from: the newest, unless the Config
// says otherwise and this Run has not committed one yet.
func (r *runner) choose(ctx context.Context, head catalog.Head) (catalog.Entry, bool, error) {
	newest, ok := head.Newest()
	if ok && r.firstEpoch != 0 && newest.Epoch >= r.firstEpoch {
		return newest, true, nil
	}
	switch {
	case r.cfg.Fresh:
		return catalog.Entry{}, false, nil
	case r.cfg.From == 0:
		return newest, ok, nil
	}
	entry, ok := head.Find(r.cfg.From)
	if !ok {
		return catalog.Entry{}, false, fmt.Errorf("start from checkpoint %d: %w", r.cfg.From, catalog.ErrNotFound)
	}
	return entry, true, r.checkOutputBeyond(ctx, head, entry.ID)
}

// checkOutputBeyond refuses to go back behind committed output.
func (r *runner) checkOutputBeyond(ctx context.Context, head catalog.Head, id manifest.ID) error {
	for _, e := range head.Checkpoints {
		if e.ID <= id {
			continue
		}
		o, err := r.catalog.Outline(ctx, e)
		if err != nil {
			return err
		}
		for at, err := range r.catalog.Tasks(ctx, o) {
			if err != nil {
				return err
			}
			if len(at.Task.Handles) > 0 {
				return fmt.Errorf("start from checkpoint %d: %w by checkpoint %d", id, ErrOutputBeyond, e.ID)
			}
		}
	}
	return nil
}

// assignments deals out what all subtasks begin with. Sources that have no
// positions yet are asked for their splits.
func (own *ownership) assignments(ctx context.Context) (map[*node][]manifest.Task, error) {
	out := make(map[*node][]manifest.Task)
	for _, n := range own.plan.job.nodes {
		var op *manifest.Operator
		if own.from != nil {
			op = own.from.Operator(n.uid)
		}
		out[n] = own.plan.assign(n, op)
		if n.role != roleSource || op != nil {
			continue
		}
		var splits []manifest.Split
		err := protect(func() (err error) {
			if splits, err = n.splits(ctx); err == nil {
				err = checkSplits(splits)
			}
			return err
		})
		if err != nil {
			return nil, &TaskError{Operator: n.uid, Epoch: own.owner.Epoch(), Err: fmt.Errorf("list splits: %w", err)}
		}
		out[n] = dealSplits(splits, own.plan.parallelism[n])
	}
	return out, nil
}

var errSplits = errors.New("split ids are not unique, or not valid")

// checkSplits refuses what no checkpoint could hold.
func checkSplits(splits []manifest.Split) error {
	seen := make(map[string]bool)
	for _, s := range splits {
		if seen[s.ID] || s.ID == "" || !utf8.ValidString(s.ID) {
			return fmt.Errorf("%w: %q", errSplits, s.ID)
		}
		seen[s.ID] = true
	}
	return nil
}
