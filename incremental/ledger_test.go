package incremental

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ckpt-io/ckpt/manifest"
)

// book is a ledger with what a test does to it in one line each.
type book struct {
	t *testing.T
	*Ledger
}

func newBook(t *testing.T, next manifest.ID, restored *manifest.KeyedState, reserved ...manifest.Object) book {
	return book{t, NewLedger(LedgerOptions{
		Operator: "op", Subtask: 3, Epoch: 2, NextID: next, KeyGroups: allGroups, Restored: restored, Reserved: reserved,
	})}
}

func (b book) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b book) barrier(id, oldest manifest.ID) {
	b.t.Helper()
	b.must(b.Barrier(Barrier{ID: id, OldestBase: oldest}))
}

// delta enters the next delta and gives its object.
func (b book) delta() manifest.Object {
	b.t.Helper()
	p := b.NextPosition()
	o := manifest.Object{Key: b.DeltaName(p).Key(), Size: 1, SHA256: manifest.Digest{1, byte(p)}}
	b.must(b.AddDelta(manifest.Delta{Position: p, Object: o}))
	return o
}

func (b book) upload(digest byte) manifest.Object {
	b.t.Helper()
	o, err := b.BeginFile(1, manifest.Digest{2, digest}, manifest.ExtSST)
	b.must(err)
	return o
}

func (b book) file(digest byte) manifest.Object {
	b.t.Helper()
	o := b.upload(digest)
	b.must(b.AddFile(o))
	return o
}

func (b book) finish(position uint64, files ...manifest.Object) {
	b.t.Helper()
	base := manifest.Base{Position: position}
	for i, o := range files {
		base.Files = append(base.Files, manifest.File{Name: string(rune('a' + i)), Object: o})
	}
	b.must(b.FinishBase(base))
}

// report wants a checkpoint to name and to reserve these objects.
func (b book) report(id manifest.ID, named, reserved []manifest.Object) {
	b.t.Helper()
	keyed, r, err := b.Report(id)
	b.must(err)
	if got := slices.Collect(keyed.NeededObjects()); !slices.Equal(got, named) {
		b.t.Errorf("checkpoint %d names %v, want %v", id, keys(got), keys(named))
	}
	if !slices.Equal(keys(r), keys(reserved)) {
		b.t.Errorf("checkpoint %d reserves %v, want %v", id, keys(r), keys(reserved))
	}
}

func keys(objects []manifest.Object) (out []string) {
	for _, o := range objects {
		out = append(out, o.Key)
	}
	slices.Sort(out)
	return out
}

type objects = []manifest.Object

func TestLedgerNames(t *testing.T) {
	b := newBook(t, 5, nil)
	first := b.NextPosition()
	want := func(got manifest.DataName, id manifest.ID, n uint64) {
		t.Helper()
		if got != (manifest.DataName{ID: id, Epoch: 2, Operator: "op", Subtask: 3, N: n, Ext: manifest.ExtSST}) {
			t.Errorf("name is %+v, want id %d, n %d", got, id, n)
		}
	}
	want(b.DeltaName(first), 5, 1) // no barrier yet
	b.barrier(7, 0)
	second := b.NextPosition()
	b.barrier(9, 0)
	want(b.DeltaName(first), 7, 2)
	want(b.DeltaName(second), 9, 3)
	b.must(b.StartBase(0))
	file, err := manifest.ParseDataKey(b.upload(1).Key)
	b.must(err)
	want(file, 10, 4)
	want(b.DeltaName(b.NextPosition()), 10, 5)
	b.Aborted(7)
	want(b.DeltaName(first), 9, 6)
}

func TestLedgerReportsDeltas(t *testing.T) {
	b := newBook(t, 1, nil)
	b.barrier(1, 0)
	b.report(1, nil, nil) // the empty state
	d1, d2 := b.delta(), b.delta()
	b.barrier(2, 0)
	d3 := b.delta() // after the cut
	b.report(2, objects{d1, d2}, nil)
	b.barrier(3, 2)
	b.report(3, objects{d1, d2, d3}, nil)
	b.barrier(4, 3)
	b.report(4, objects{d1, d2, d3}, nil) // nothing changed
}

func TestLedgerWaitsForDeltas(t *testing.T) {
	b := newBook(t, 1, nil)
	first, second := b.NextPosition(), b.NextPosition()
	b.barrier(1, 0)
	add := func(p uint64) {
		b.must(b.AddDelta(manifest.Delta{Position: p, Object: manifest.Object{Key: b.DeltaName(p).Key()}}))
	}
	incomplete := func() {
		t.Helper()
		if _, _, err := b.Report(1); b.Ready(1) || !errors.Is(err, ErrIncomplete) {
			t.Errorf("ready %t, report gives %v, want ErrIncomplete", b.Ready(1), err)
		}
	}
	incomplete()
	add(second) // in any order
	incomplete()
	add(first)
	if _, _, err := b.Report(1); err != nil {
		t.Error(err)
	}
}

func TestLedgerRefuses(t *testing.T) {
	b := newBook(t, 3, nil)
	d := b.delta()
	b.barrier(4, 0)
	b.must(b.StartBase(1))
	late := b.upload(1)
	b.CancelBase()
	b.must(b.StartBase(1))
	b.barrier(5, 0)
	b.report(5, objects{d}, nil)
	unnamed := manifest.Base{Position: 1, Files: []manifest.File{{Name: "a", Object: late}}}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"a barrier again", b.Barrier(Barrier{ID: 5}), "the last one was 5"},
		{"a barrier of before the epoch", newBook(t, 3, nil).Barrier(Barrier{ID: 2}), "the last one was 2"},
		{"a report below the last", second(b.Report(4)), "not pending"},
		{"a report again", second(b.Report(5)), "not pending"},
		{"a report without a barrier", second(b.Report(6)), "not pending"},
		{"a file of a base that was canceled", b.AddFile(late), ErrOvertaken.Error()},
		{"a file that nobody began", b.AddFile(manifest.Object{Key: manifest.DataName{ID: 9, Epoch: 2, Operator: "op", Ext: "sst"}.Key()}), ErrOvertaken.Error()},
		{"a base of files that were not added", b.FinishBase(unnamed), "was not added"},
		{"a base at another position", b.FinishBase(manifest.Base{Position: 2}), "none at position 2"},
		{"two bases at a time", b.StartBase(1), "under way"},
		{"a base ahead of all positions", newBook(t, 1, nil).StartBase(1), "out of order"},
		{"a file without a base", newBook(t, 1, nil).AddFile(late), "no base"},
		{"a delta twice", b.AddDelta(manifest.Delta{Position: 1, Object: b.upload(7)}), "already there"},
		{"a delta without a position", b.AddDelta(manifest.Delta{Position: 2, Object: b.upload(7)}), "never given"},
		{"an upload without a base", func() error {
			_, err := newBook(t, 1, nil).BeginFile(1, manifest.Digest{}, manifest.ExtSST)
			return err
		}(), "no base"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, c.err, c.want)
		}
	}
}

func second(_ *manifest.KeyedState, _ []manifest.Object, err error) error { return err }

// A base is named by checkpoints at or past its position alone; until then,
// and while it is under way, its files are reserved.
func TestLedgerBase(t *testing.T) {
	b := newBook(t, 1, nil)
	d1 := b.delta()
	b.barrier(1, 0)
	b.barrier(2, 0)
	d2 := b.delta()
	b.must(b.StartBase(2)) // ahead of 1 and 2
	f1 := b.file(1)        // for 3
	b.report(1, objects{d1}, nil)
	b.barrier(3, 1)
	f2 := b.file(2) // for 4
	b.report(2, objects{d1}, nil)
	b.report(3, objects{d1, d2}, objects{f1})
	b.finish(2, f1, f2)
	d3 := b.delta()
	b.barrier(4, 2)
	// d1 has an id not above the oldest base, so that no report repeats it.
	b.report(4, objects{f1, f2, d3}, objects{d2})
	b.barrier(5, 4)
	b.report(5, objects{f1, f2, d3}, nil)
}

func TestLedgerBaseNotNamedAheadOfCut(t *testing.T) {
	b := newBook(t, 1, nil)
	d1 := b.delta()
	b.barrier(1, 0)
	b.barrier(2, 0)
	d2 := b.delta()
	b.must(b.StartBase(2))
	b.finish(2) // all of it inline
	b.report(1, objects{d1}, nil)
	b.report(2, objects{d1}, nil)
	b.barrier(3, 0)
	b.report(3, nil, objects{d1, d2})
}

// What the last checkpoint reserves would never be named.
func TestLedgerLastReservesNothing(t *testing.T) {
	b := newBook(t, 1, nil)
	d := b.delta()
	b.must(b.StartBase(1))
	b.file(1)
	b.CancelBase()
	b.must(b.Barrier(Barrier{ID: 1, Last: true}))
	b.report(1, objects{d}, nil)
}

// What was uploaded of a base that was given up, in this life or the one
// before, is reserved for the next and found by its content.
func TestLedgerSpare(t *testing.T) {
	old := manifest.Object{Key: manifest.DataName{ID: 4, Epoch: 1, Operator: "op", Ext: "sst"}.Key(), Size: 1, SHA256: manifest.Digest{2, 1}}
	b := newBook(t, 6, nil, old)
	b.must(b.StartBase(0))
	f2 := b.file(2)
	b.CancelBase()
	b.barrier(6, 5)
	b.report(6, nil, objects{old, f2})
	b.must(b.StartBase(0))
	for _, want := range []manifest.Object{old, f2} {
		got, ok := b.Find(want.Size, want.SHA256)
		if !ok || got != want {
			t.Errorf("find gives %v, %t, want %v", got, ok, want)
		}
		b.must(b.AddFile(got))
	}
	if _, ok := b.Find(2, old.SHA256); ok {
		t.Error("found an object of another size")
	}
	b.CancelBase()
	b.must(b.StartBase(0))
	b.must(b.AddFile(f2))
	b.finish(0, f2)
	b.barrier(7, 6)
	b.report(7, objects{f2}, nil)
	if _, ok := b.Find(old.Size, old.SHA256); ok {
		t.Error("found an object that the last report left out")
	}
}

// The files of a base may take longer to upload than any number of reports.
// Those reserve them without a digest, and the base is named in the end.
func TestLedgerSlowUpload(t *testing.T) {
	b := newBook(t, 1, nil)
	d := b.delta()
	b.must(b.StartBase(1))
	f1, f2 := b.upload(1), b.upload(2) // for 1
	unfinished := func(o manifest.Object) manifest.Object { return manifest.Object{Key: o.Key, Size: o.Size} }
	for id := manifest.ID(1); id < 10; id++ {
		b.barrier(id, id-1)
		_, reserved, err := b.Report(id)
		b.must(err)
		if want := (objects{unfinished(f1), unfinished(f2)}); !slices.Equal(reserved, want) {
			t.Fatalf("checkpoint %d reserves %v, want %v", id, reserved, want)
		}
		if _, ok := b.Find(f1.Size, f1.SHA256); ok {
			t.Fatal("found what is still being uploaded")
		}
	}
	b.must(b.AddFile(f2))
	b.barrier(10, 9)
	b.report(10, objects{d}, objects{f1, f2})
	b.must(b.AddFile(f1))
	b.finish(1, f1, f2)
	b.barrier(11, 10)
	b.report(11, objects{f1, f2}, nil)
}

// What is still being uploaded when a base is cancelled is let go, and so is
// what was when the checkpoint was taken from which a task is restored: whether
// it came to its end is not known.
func TestLedgerForgetsUnfinished(t *testing.T) {
	unfinished := manifest.Object{Key: manifest.DataName{ID: 4, Epoch: 1, Operator: "op", Ext: "sst"}.Key(), Size: 1}
	b := newBook(t, 6, nil, unfinished)
	if _, ok := b.Find(1, manifest.Digest{}); ok {
		t.Error("found an object that may not exist")
	}
	b.must(b.StartBase(0))
	late := b.upload(1)
	b.CancelBase()
	b.barrier(6, 5)
	b.report(6, nil, nil)
	if err := b.AddFile(late); err == nil {
		t.Error("a file was added to a base that is canceled")
	}
}

// A task goes on from what it was restored from.
func TestLedgerRestored(t *testing.T) {
	object := func(n uint64) manifest.Object {
		return manifest.Object{Key: manifest.DataName{ID: 1, Epoch: 1, Operator: "op", N: n, Ext: "sst"}.Key(), Size: 10, SHA256: manifest.Digest{9, byte(n)}}
	}
	state := &manifest.KeyedState{
		KeyGroups: allGroups,
		Pieces: []manifest.Piece{{
			KeyGroups: allGroups,
			Base:      &manifest.Base{Position: 4, Files: []manifest.File{{Name: "a", Object: object(1)}, {Name: "b", Inline: make([]byte, 5)}}},
			Deltas:    []manifest.Delta{{Position: 2, Object: object(2)}},
		}},
		Deltas: []manifest.Delta{{Position: 8, Object: object(3)}},
	}
	b := newBook(t, 6, state)
	if got, want := b.Chain(), (Chain{Deltas: 2, DeltaBytes: 20, BaseBytes: 15, Pieces: 1}); got != want {
		t.Errorf("chain is %+v, want %+v", got, want)
	}
	d := b.delta()
	b.barrier(6, 5)
	keyed, _, err := b.Report(6)
	b.must(err)
	if got := keyed.Deltas[1].Position; got != 9 {
		t.Errorf("the first delta has position %d, want 9", got)
	}
	b.barrier(7, 5)
	b.report(7, objects{object(1), object(2), object(3), d}, nil)
	b.must(b.StartBase(9))
	b.must(b.AddFile(object(3)))
	f := b.file(1)
	b.finish(9, object(3), f)
	if got, want := b.Chain(), (Chain{BaseBytes: 11, Pieces: 1}); got != want {
		t.Errorf("chain over the new base is %+v, want %+v", got, want)
	}
	b.barrier(8, 6)
	b.report(8, objects{object(3), f}, nil)
}

// A report stays as it was, whatever the ledger does afterwards.
func TestLedgerReportIsACopy(t *testing.T) {
	b := newBook(t, 1, nil)
	for i := range byte(3) {
		b.delta()
		b.must(b.StartBase(uint64(i) + 1))
		b.finish(uint64(i)+1, b.file(i))
	}
	b.barrier(2, 0)
	keyed, _, err := b.Report(2)
	b.must(err)
	named := slices.Collect(keyed.NeededObjects())
	b.delta()
	b.must(b.StartBase(4))
	b.finish(4, b.file(9))
	b.barrier(3, 0)
	_, _, err = b.Report(3)
	b.must(err)
	if got := slices.Collect(keyed.NeededObjects()); !slices.Equal(got, named) {
		t.Errorf("the report of 2 now names %v, it named %v", keys(got), keys(named))
	}
}
