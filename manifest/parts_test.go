package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// packStore holds packs by key.
type packStore struct {
	packs   map[string][]byte
	id      ID
	n       uint64
	written int64 // bytes
}

func newPackStore() *packStore { return &packStore{packs: make(map[string][]byte)} }

func (s *packStore) put(data []byte) (Object, error) {
	o := Object{Key: PackName{ID: s.id, Epoch: 1, N: s.n}.Key(), Size: int64(len(data)), SHA256: sha256.Sum256(data)}
	s.n++
	s.written += o.Size
	s.packs[o.Key] = slices.Clone(data)
	return o, nil
}

func (s *packStore) fetch(o Object) ([]byte, error) {
	data, ok := s.packs[o.Key]
	if !ok {
		return nil, fmt.Errorf("pack %q: %w", o.Key, fs.ErrNotExist)
	}
	return data, nil
}

// fleet is a job with n keyed tasks, each with a base of so many files, beside a
// source. Its tasks are made as they are asked for.
type fleet struct {
	id      ID
	n       int
	files   int
	changed []ID // by task: the checkpoint that changed it last
}

func newFleet(n, files int) *fleet {
	return &fleet{id: 1, n: n, files: files, changed: slices.Repeat([]ID{1}, n)}
}

func (f *fleet) head() *Manifest {
	return &Manifest{
		Job: "job", JobUUID: "uuid", ID: f.id, Epoch: 1, Kind: Periodic, Time: time.Unix(int64(f.id), 0).UTC(), Base: f.id - 1,
		Operators: []Operator{
			{UID: "keyed", Parallelism: f.n, MaxParallelism: f.n, Hasher: "murmur3-32/1"},
			{UID: "source", Parallelism: 1, MaxParallelism: 1},
		},
		Stats: Stats{Objects: int64(f.n * f.files)},
	}
}

// task is what the subtask reports: changed tasks have a new file and delta.
func (f *fleet) task(op, i int) (*Task, error) {
	r := rand.New(rand.NewPCG(uint64(f.id), uint64(op*f.n+i)))
	d := func() time.Duration { return time.Duration(r.Int64N(int64(time.Second))) }
	stats := TaskStats{StartDelay: d(), Alignment: d(), Capture: d() / 1000, Queue: d(), Encode: d(), Upload: d(), Total: d(), FullBytes: int64(f.files) << 20}
	if op == 1 {
		return &Task{Splits: []Split{{ID: "a", Position: []byte{byte(f.id)}}}, Stats: stats}, nil
	}
	base := &Base{Position: uint64(f.changed[i]), FormatMajorVersion: 16, Files: make([]File, f.files)}
	for j := range base.Files {
		id := ID(1)
		if j == 0 {
			id = f.changed[i]
		}
		base.Files[j] = File{Name: fmt.Sprintf("%06d.sst", j), Object: f.object(id, i, uint64(j))}
	}
	kgs := KeyGroupRange{uint16(i), uint16(i)}
	var reserved []Object
	if i == 7 {
		reserved = []Object{f.object(1, i, 500), f.object(1, i, 501)}
		slices.SortFunc(reserved, func(a, b Object) int { return strings.Compare(a.Key, b.Key) })
	}
	return &Task{Index: i, Stats: stats, Reserved: reserved, Keyed: &KeyedState{
		KeyGroups: kgs, Pieces: []Piece{{KeyGroups: kgs, Base: base}},
		Deltas: []Delta{{Position: uint64(f.changed[i]) + 1, Object: f.object(f.changed[i], i, 999), Entries: 1000, Bytes: 100_000}},
	}}, nil
}

func (f *fleet) object(id ID, task int, n uint64) Object {
	x := uint64(id)<<40 ^ uint64(task)<<20 ^ n
	o := Object{Key: DataName{ID: id, Epoch: 1, Operator: "keyed", Subtask: task, N: n, Ext: ExtSST}.Key(), Size: 2<<20 + int64(x*0x9e3779b97f4a7c15>>46)}
	for i := 0; i < len(o.SHA256); i += 8 { // SplitMix64
		x += 0x9e3779b97f4a7c15
		z := (x ^ x>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		binary.LittleEndian.PutUint64(o.SHA256[i:], z^z>>31)
	}
	return o
}

func (f *fleet) whole(t testing.TB) *Manifest {
	t.Helper()
	m := f.head()
	for i := range m.Operators {
		for j := range m.Operators[i].Parallelism {
			task, err := f.task(i, j)
			if err != nil {
				t.Fatal(err)
			}
			m.Operators[i].Tasks = append(m.Operators[i].Tasks, *task)
		}
	}
	return m
}

// next is the checkpoint after f, with some tasks changed.
func (f *fleet) next(changed ...int) *fleet {
	g := *f
	g.id++
	g.changed = slices.Clone(f.changed)
	for _, i := range changed {
		g.changed[i] = g.id
	}
	return &g
}

// encodeWhole encodes a manifest that is in memory.
func encodeWhole(t testing.TB, m *Manifest, base *Outline, opts PartsOptions, s *packStore) ([]byte, *Outline) {
	t.Helper()
	s.id = m.ID
	data, out, err := EncodePacked(m, base, opts, s.put)
	if err != nil {
		t.Fatal(err)
	}
	return data, out
}

func decodeWhole(t testing.TB, data []byte, s *packStore) *Manifest {
	t.Helper()
	o, err := DecodeOutline(data)
	if err != nil {
		t.Fatal(err)
	}
	m, err := o.Whole(s.fetch)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// smallParts has parts and packs with small manifests.
var smallParts = PartsOptions{Inline: 200, Pack: 4 << 10, MaxPacks: 8}

func TestEncodeParts_SmallStandsWhole(t *testing.T) {
	s := newPackStore()
	data, o := encodeWhole(t, sample(), nil, PartsOptions{}, s)
	if !bytes.Equal(data, encoded(t, sample())) {
		t.Error("a small manifest is not stored as Encode does it")
	}
	if o != nil || len(s.packs) > 0 {
		t.Errorf("%d packs, outline %v; want none", len(s.packs), o)
	}
}

func TestEncodeParts_RoundTrip(t *testing.T) {
	s, f := newPackStore(), newFleet(30, 5)
	var base *Outline
	for step := range 20 {
		m := f.whole(t)
		data, next := encodeWhole(t, m, base, smallParts, s)
		got := decodeWhole(t, data, s)
		m.Packs = got.Packs
		if len(got.Packs) == 0 || !reflect.DeepEqual(got, m) {
			t.Fatalf("step %d: got  %+v\nwant %+v", step, got, m)
		}
		if _, err := Decode(data); !errors.Is(err, ErrParts) {
			t.Fatalf("Decode: %v, want ErrParts", err)
		}
		base, f = next, f.next(step, step+1, (step*7)%30)
	}
}

// TestB69_UnchangedTasksCostNothing takes a checkpoint in which nothing changed
// but the tasks' figures, and one in which a few tasks did.
func TestB69_UnchangedTasksCostNothing(t *testing.T) {
	s, f := newPackStore(), newFleet(30, 5)
	_, base := encodeWhole(t, f.whole(t), nil, smallParts, s)
	packs, written := len(s.packs), s.written
	g := f.next()
	m := g.whole(t)
	slices.Reverse(m.Operators[0].Tasks[7].Reserved)
	data, o := encodeWhole(t, m, base, smallParts, s)
	if s.written != written {
		t.Errorf("%d bytes of packs were written though nothing changed", s.written-written)
	}
	if !slices.Equal(o.Packs(), base.Packs()) {
		t.Errorf("packs %v, want those of the base, %v", o.Packs(), base.Packs())
	}
	want := g.whole(t)
	want.Packs = o.Packs()
	if got := decodeWhole(t, data, s); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	_, o = encodeWhole(t, g.next(4, 5).whole(t), o, smallParts, s)
	if n := len(s.packs); n <= packs || len(o.Packs()) != len(base.Packs())+1 {
		t.Errorf("%d packs, %d of them named; want one more than %d", n, len(o.Packs()), len(base.Packs()))
	}
}

// TestOutline_Task reads tasks one at a time, each from its own bytes alone.
func TestOutline_Task(t *testing.T) {
	data, s, m := sampleParts(t)
	o, err := DecodeOutline(data)
	if err != nil {
		t.Fatal(err)
	}
	read := func(pack Object, offset, size int64) ([]byte, error) {
		return slices.Clone(s.packs[pack.Key][offset : offset+size]), nil
	}
	for _, op := range m.Operators {
		for i := range op.Tasks {
			if got, err := o.Task(op.UID, i, read); err != nil || !reflect.DeepEqual(*got, op.Tasks[i]) {
				t.Errorf("%s/%d is %+v, %v\nwant %+v", op.UID, i, got, err, op.Tasks[i])
			}
		}
	}
	for _, i := range []int{-1, 2} {
		if got, err := o.Task("count", i, read); got != nil || err != nil {
			t.Errorf("subtask %d is %+v, %v", i, got, err)
		}
	}
	if got, err := o.Task("other", 0, read); got != nil || err != nil {
		t.Errorf("no operator's is %+v, %v", got, err)
	}
	flipped := func(pack Object, offset, size int64) ([]byte, error) {
		data, err := read(pack, offset, size)
		data[len(data)/2]++
		return data, err
	}
	corrupt, ok := errors.AsType[*CorruptError](func() error { _, err := o.Task("count", 0, flipped); return err }())
	if d, in := o.Part(0, 0); !in || !ok || corrupt.Key != o.packs[o.refs[0][0].pack].Key || d == (Digest{}) {
		t.Errorf("a damaged part: %v", corrupt)
	}
	if d, in := o.Part(1, 0); in != (len(o.refs[1]) > 0) {
		t.Errorf("part of the source: %v, %v", d, in)
	}
}

// TestOutline_TasksBut passes over known parts, and does not fetch a pack of
// nothing else.
func TestOutline_TasksBut(t *testing.T) {
	s, f := newPackStore(), newFleet(30, 5)
	_, base := encodeWhole(t, f.whole(t), nil, smallParts, s)
	known := make(map[Digest]bool)
	for at, err := range base.Tasks(s.fetch) {
		if err != nil {
			t.Fatal(err)
		}
		known[at.Part] = at.Part != Digest{}
	}
	g := f.next(3, 9)
	_, o := encodeWhole(t, g.whole(t), base, smallParts, s)
	fetched, tasks, places := 0, 0, 0
	fetch := func(p Object) ([]byte, error) { fetched++; return s.fetch(p) }
	for at, err := range o.TasksBut(func(d Digest) bool { return known[d] }, fetch) {
		if err != nil {
			t.Fatal(err)
		}
		places++
		if at.Task != nil {
			tasks++
		}
	}
	if fetched != 1 || tasks != 3 || places != 31 { // two changed, and the source
		t.Errorf("%d packs fetched, %d tasks of %d read", fetched, tasks, places)
	}
}
