package figures

import "fmt"

// Names of the figures that have a bar, and of CPU, which goes with Link.
const (
	Pause         = "pause at capture, p99, against Flush+Checkpoint under the same load"
	PauseFlat     = "pause at capture, p99, flat: the largest state against a tenth of the standard one"
	Link          = "checkpoint of ≥ 64 MB of changes, trigger to commit, on a link held to 20 MB/s by a proxy, against raw PUTs of the same bytes + manifest + HEAD"
	CPU           = "the same without a limit, CPU seconds per GB uploaded against a raw PUT loop with CRC32C and SHA-256"
	UploadedBytes = "uploaded bytes a checkpoint, materialization included, against classic incremental (64 MB memtable, zstd) at 5 % random updates, 30 checkpoints"
	EagerRestore  = "eager restore against raw parallel GET of the same objects into files with SHA-256"
	FirstRecord   = "first record after lazy recovery of 1 GB at 10 ms a GET against eager restore"
	FirstFlat     = "first record after lazy recovery at 10 ms a GET, flat: the largest state against a tenth of the standard one"
	RcloneTime    = "against rclone sync of the same state: time of a later checkpoint"
	RcloneReqs    = "against rclone sync of the same state: requests of a later checkpoint"
	Throughput    = "throughput at 1 s checkpoints against none"
	MemCheckpoint = "memory above the configured caches and overlay limits (frozen ones included) during checkpoint, a task"
	MemRestore    = "memory above the configured caches and overlay limits (frozen ones included) during eager restore, a task"
	MemLazy       = "memory above the configured caches and overlay limits (frozen ones included) during lazy restore until hydrated, a task"
)

// flat is how much a figure that does not depend on the size of the state may
// grow with it: the tail of a pause of microseconds is not steadier than that.
const flat = 2

// Bar is what a value must keep to.
type Bar struct {
	Limit   float64
	AtLeast bool // the value must not be below Limit, else not above
}

// Holds reports whether v keeps to the bar.
func (b Bar) Holds(v float64) bool {
	if b.AtLeast {
		return v >= b.Limit
	}
	return v <= b.Limit
}

func (b Bar) String() string {
	sign := "<="
	if b.AtLeast {
		sign = ">="
	}
	return fmt.Sprintf("%s %.3g", sign, b.Limit)
}

// Row is a figure that every report has, in the order of the report.
type Row struct {
	Figure string
	Bar    *Bar // nil: reported only
}

// Rows are the figures that must hold, and the one that goes with them.
func Rows() []Row {
	most := func(limit float64) *Bar { return &Bar{Limit: limit} }
	return []Row{
		{Pause, most(1.0 / 50)},
		{PauseFlat, most(flat)},
		{Link, most(1.15)},
		{CPU, nil},
		{UploadedBytes, most(1.0 / 3)},
		{EagerRestore, most(1.25)},
		{FirstRecord, most(1.0 / 10)},
		{FirstFlat, most(flat)},
		{RcloneTime, most(1.0 / 2)},
		{RcloneReqs, most(1.0 / 5)},
		{Throughput, &Bar{Limit: 0.95, AtLeast: true}},
		{MemCheckpoint, most(128)},
		{MemRestore, most(128)},
		{MemLazy, most(128)},
	}
}
