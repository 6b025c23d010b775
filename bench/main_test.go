package bench

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/bench/internal/figures"
)

// Environment variables; see the package's documentation.
const (
	envMB    = "CKPT_BENCH_MB"
	envTasks = "CKPT_BENCH_TASKS"
	envOut   = "CKPT_BENCH_OUT"
	envFull  = "CKPT_BENCH_FULL"
	envChild = "CKPT_BENCH_CHILD"
)

const mb = 1_000_000

// config is what all benchmarks of a run share.
type config struct {
	stateMB int
	tasks   int
	changed int // % between two checkpoints
	full    bool
	out     string
}

var (
	conf config
	rec  recorder
	root string // of everything on the local disk
)

func TestMain(m *testing.M) {
	if what := os.Getenv(envChild); what != "" {
		os.Exit(runChild(what))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	conf = config{stateMB: number(envMB, 1000), tasks: number(envTasks, 4), changed: 5, full: os.Getenv(envFull) != "", out: os.Getenv(envOut)}
	rec.begin()
	warn()
	var err error
	if root, err = os.MkdirTemp("", "ckpt-bench"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(root)
	defer closePlaces()
	return m.Run()
}

// longest is what all benchmarks together may take. The go command kills a
// binary that takes a minute longer than its -timeout, ten minutes by default.
const longest = 20 * time.Minute

// warn says early what would end or spoil a run of benchmarks late.
func warn() {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "." {
		return
	}
	if timeout, ok := flag.Lookup("test.timeout").Value.(flag.Getter).Get().(time.Duration); ok && timeout > 0 && timeout < longest {
		fmt.Fprintf(os.Stderr, "all benchmarks may take %v, and go test ends them after %v: use -timeout 30m\n", longest, timeout)
	}
	if m := rec.data.Machine; m.Busy() {
		fmt.Fprintf(os.Stderr, "the machine is busy (load %.2f): do not rely on the figures\n", m.Load)
	}
}

func number(env string, or int) int {
	n, err := strconv.Atoi(os.Getenv(env))
	if err != nil || n <= 0 {
		return or
	}
	return n
}

// recorder collects what the benchmarks measure, and stores it after each one,
// so that what was measured survives whatever comes later.
type recorder struct {
	mu    sync.Mutex
	began time.Time
	data  figures.Data
}

func (r *recorder) begin() {
	r.began = time.Now()
	r.data = figures.Data{
		Machine: machine(), Commit: os.Getenv("CKPT_BENCH_COMMIT"), Began: r.began.UTC().Truncate(time.Second),
		Config: map[string]string{
			"state_mb": strconv.Itoa(conf.stateMB), "tasks": strconv.Itoa(conf.tasks),
			"changed_percent": strconv.Itoa(conf.changed), "full": strconv.FormatBool(conf.full),
		},
	}
}

func (r *recorder) sample(figure string, round int, unit string, ours, peer float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.data.Samples = append(r.data.Samples, figures.Sample{Figure: figure, Round: round, Unit: unit, Ours: ours, Peer: peer})
}

func (r *recorder) point(plot, series string, x, y float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.data.Points = append(r.data.Points, figures.Point{Plot: plot, Series: series, X: x, Y: y})
}

// skip leaves a measurement out, with a word.
func (r *recorder) skip(b *testing.B, what string, why error) {
	b.Logf("%s is skipped: %v", what, why)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.data.Skipped = append(r.data.Skipped, figures.Skipped{What: what, Why: why.Error()})
}

// report shows the median of a figure among the benchmark's metrics.
func (r *recorder) report(b *testing.B, figure, metric string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range figures.Compute(&r.data) {
		if f.Figure == figure {
			b.ReportMetric(f.Value, metric)
		}
	}
}

func (r *recorder) store(b *testing.B) {
	if conf.out == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.data.Took = time.Since(r.began).Round(time.Second).String()
	if err := os.MkdirAll(conf.out, 0o777); err != nil {
		b.Fatal(err)
	}
	if err := r.data.Write(filepath.Join(conf.out, "samples.json")); err != nil {
		b.Fatal(err)
	}
}

// measure runs f once, however often the benchmark would like it: f repeats
// what it compares in rounds of its own.
func measure(b *testing.B, f func()) {
	b.Helper()
	done, begin := false, time.Now()
	for b.Loop() {
		if !done {
			f()
			done = true
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(time.Since(begin).Seconds(), "s-in-all")
	rec.store(b)
}

func machine() figures.Machine {
	m := figures.Machine{CPU: "unknown", CPUs: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version()}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				m.CPU = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
				break
			}
		}
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _ = strconv.ParseFloat(strings.Fields(string(load))[0], 64) // 0 if it is not a number
	}
	return m
}

func must(b testing.TB, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
