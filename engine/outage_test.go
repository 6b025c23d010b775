package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ckpt-io/ckpt/coordinator"
	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/internal/fakes3"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// clocked is a job on S3, both without a network and with the clock of the
// bubble it runs in, that counts a word every 100 ms.
type clocked struct {
	server *fakes3.Server
	store  objectstore.Store
	out    *tallied

	mu        sync.Mutex
	completed int
	aborted   int
	failed    []error
}

// tallied is how often the word was counted, over all runs.
type tallied struct {
	mu sync.Mutex
	n  int64
}

func (c *clocked) checkpoints() (completed, aborted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.completed, c.aborted
}

// ticking emits one word every 100 ms and counts them in its position.
type ticking struct{}

func (ticking) Splits(context.Context) ([]manifest.Split, error) {
	return []manifest.Split{{ID: "0", Position: []byte("0")}}, nil
}

func (ticking) Reader(engine.SourceContext) (engine.SourceReader[int64], error) {
	return &tickingReader{}, nil
}

type tickingReader struct {
	has bool
	n   int64
}

func (r *tickingReader) Restore(_ context.Context, splits []manifest.Split) (err error) {
	if r.has = len(splits) > 0; r.has {
		r.n, err = strconv.ParseInt(string(splits[0].Position), 10, 64)
	}
	return err
}

func (r *tickingReader) Poll(ctx context.Context, emit func(int64)) error {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		r.n++
		emit(r.n)
	case <-ctx.Done():
	}
	return nil
}

func (r *tickingReader) Snapshot(manifest.ID) ([]manifest.Split, error) {
	return []manifest.Split{{ID: "0", Position: strconv.AppendInt(nil, r.n, 10)}}, nil
}

func (*tickingReader) Committed(manifest.ID) {}
func (*tickingReader) Close() error          { return nil }

// inOrder counts records and fails on one that is lost or doubled.
type inOrder struct {
	count *state.Value[int64]
	out   *tallied
}

func (c *inOrder) Open(ctx *engine.KeyedContext) (err error) {
	c.count, err = engine.NewValue(ctx, "count", state.Int64)
	return err
}

func (c *inOrder) Process(_ string, n int64, _ func(int64)) error {
	before, _, err := c.count.Get()
	if err != nil {
		return err
	}
	if n != before+1 {
		panic("record " + strconv.FormatInt(n, 10) + " comes after " + strconv.FormatInt(before, 10))
	}
	c.out.mu.Lock()
	c.out.n++
	c.out.mu.Unlock()
	return c.count.Set(n)
}

func (c *clocked) processed() int64 {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.n
}

// startClocked starts a job with a checkpoint a second. before sees each
// request.
func startClocked(t *testing.T, before func(fakes3.Kind, *http.Request) (*http.Response, error), change func(*engine.Config), creds ...aws.CredentialsProvider) (c *clocked, stop func()) {
	t.Helper()
	server, err := fakes3.New()
	if err != nil {
		t.Fatal(err)
	}
	server.Before = before
	creds = append(creds, credentials.NewStaticCredentialsProvider("key", "secret", ""))
	store, err := s3.Open(t.Context(), s3.Options{
		Bucket: fakes3.Bucket, Endpoint: "http://s3.invalid", Region: "us-east-1", PathStyle: true, Transport: server,
		Credentials: creds[0],
	})
	if err != nil {
		t.Fatal(err)
	}
	c = &clocked{server: server, store: store, out: &tallied{}}
	job := engine.NewJob("count")
	ticks := engine.From(job, "ticks", ticking{})
	counts := engine.Process(engine.KeyBy(ticks, state.String, func(int64) string { return "k" }), "count",
		func() engine.KeyedFunc[string, int64, int64] { return &inOrder{out: c.out} })
	engine.To(counts, "out", discard[int64]{})
	ending := make(chan struct{})
	cfg := engine.Config{
		Store: store, StateDir: t.TempDir(), Stop: ending,
		Checkpoint: coordinator.Config{Interval: time.Second},
		Events: engine.Events{
			Failed: func(f engine.Failed) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.failed = append(c.failed, f.Err)
			},
			Checkpoints: coordinator.Listener{
				Completed: func(coordinator.Completed) { c.mu.Lock(); c.completed++; c.mu.Unlock() },
				Aborted:   func(coordinator.Aborted) { c.mu.Lock(); c.aborted++; c.mu.Unlock() },
			},
		},
	}
	if change != nil {
		change(&cfg)
	}
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(context.WithoutCancel(t.Context()), job, cfg) }()
	return c, func() {
		t.Helper()
		close(ending)
		if err := <-ended; err != nil {
			t.Errorf("job: %v", err)
		}
	}
}

func refused(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// sumOf is how many requests there were.
func sumOf(requests map[fakes3.Kind]int) (n int) {
	for _, k := range requests {
		n += k
	}
	return n
}

// A minute of 503 SlowDown, for some requests or all: the job goes on, does not
// add to the storm, and has checkpoints again as soon as it is over.
func TestF29_SlowDownStorm(t *testing.T) {
	for _, percent := range []int{30, 100} {
		t.Run(strconv.Itoa(percent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var storm atomic.Bool
				var mu sync.Mutex
				rng := rand.New(rand.NewPCG(29, uint64(percent)))
				c, stop := startClocked(t, func(_ fakes3.Kind, r *http.Request) (*http.Response, error) {
					mu.Lock()
					defer mu.Unlock()
					if storm.Load() && rng.IntN(100) < percent {
						return fakes3.Error(r, http.StatusServiceUnavailable, "SlowDown")
					}
					return nil, nil
				}, func(cfg *engine.Config) { cfg.Checkpoint.Tolerable = 100 })
				time.Sleep(10 * time.Second)
				began := sumOf(c.server.Requests())
				time.Sleep(time.Minute)
				normal := sumOf(c.server.Requests()) - began
				doneBefore, _ := c.checkpoints()
				processed := c.processed()

				storm.Store(true)
				time.Sleep(time.Minute)
				if n := sumOf(c.server.Requests()) - began - normal; n > 2*normal {
					t.Errorf("%d requests in the storm, %d in a minute before", n, normal)
				}
				if n := c.processed() - processed; n < 590 {
					t.Errorf("%d records were processed in the storm, want 600", n)
				}
				inStorm, _ := c.checkpoints()
				storm.Store(false)
				time.Sleep(20 * time.Second)
				after, _ := c.checkpoints()
				if after < inStorm+8 {
					t.Errorf("%d checkpoints in 20 s after the storm", after-inStorm)
				}
				t.Logf("checkpoints: %d, then %d in the storm, then %d", doneBefore, inStorm-doneBefore, after-inStorm)
				stop()
				if len(c.failed) > 0 {
					t.Errorf("the job failed: %v", c.failed)
				}
			})
		})
	}
}

// The store is out of reach for ten minutes. A job that tolerates as many
// failures runs on; one with the default policy fails and comes back when it
// can. Neither loses nor doubles a record, and checkpoints are taken again.
func TestF46_StoreOutOfReach(t *testing.T) {
	for name, tolerable := range map[string]int{"tolerated": 1000, "restarts": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var down atomic.Bool
				c, stop := startClocked(t, func(_ fakes3.Kind, r *http.Request) (*http.Response, error) {
					if down.Load() {
						return refused(r)
					}
					return nil, nil
				}, func(cfg *engine.Config) { cfg.Checkpoint.Tolerable = tolerable })
				time.Sleep(30 * time.Second)
				_, abortedBefore := c.checkpoints()
				processed := c.processed()
				down.Store(true)
				time.Sleep(10 * time.Minute)
				done, aborted := c.checkpoints()
				if aborted == abortedBefore {
					t.Error("no checkpoint failed while the store was out of reach")
				}
				ran := c.processed() - processed
				down.Store(false)
				time.Sleep(2 * time.Minute)
				if after, _ := c.checkpoints(); after < done+60 {
					t.Errorf("%d checkpoints in the two minutes after", after-done)
				}
				stop()
				switch {
				case tolerable > 0 && (len(c.failed) > 0 || ran < 5_900):
					t.Errorf("%d records while the store was out of reach, failures: %v", ran, c.failed)
				case tolerable == 0 && (len(c.failed) == 0 || !errors.Is(c.failed[0], objectstore.ErrUnavailable)):
					t.Errorf("failures are %v, want them to say that the store is unavailable", c.failed)
				}
			})
		})
	}
}

// Credentials that expire while the job runs are renewed through the chain. If
// that fails, checkpoints do, and the job goes on.
func TestF43_CredentialsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chain := &chain{}
		c, stop := startClocked(t, func(_ fakes3.Kind, r *http.Request) (*http.Response, error) {
			if !strings.Contains(r.Header.Get("Authorization"), "Credential="+chain.valid()+"/") {
				return fakes3.Error(r, http.StatusBadRequest, "ExpiredToken")
			}
			return nil, nil
		}, func(cfg *engine.Config) { cfg.Checkpoint.Tolerable = 100 }, aws.NewCredentialsCache(chain))
		time.Sleep(10 * time.Second)
		chain.expire(true)
		time.Sleep(10 * time.Second)
		done, aborted := c.checkpoints()
		if done < 17 || aborted > 0 {
			t.Errorf("%d checkpoints, %d aborted, though new credentials are to be had", done, aborted)
		}

		processed := c.processed()
		chain.expire(false)
		time.Sleep(time.Minute)
		_, aborted = c.checkpoints()
		if n := c.processed() - processed; aborted == 0 || n < 590 {
			t.Errorf("without credentials %d checkpoints failed and %d records were processed in a minute", aborted, n)
		}
		done, _ = c.checkpoints()
		chain.expire(true)
		time.Sleep(20 * time.Second)
		if after, _ := c.checkpoints(); after < done+5 {
			t.Errorf("%d checkpoints in the 20 s after credentials were to be had again", after-done)
		}
		stop()
		if len(c.failed) > 0 {
			t.Errorf("the job failed: %v", c.failed)
		}
	})
}

// chain hands out credentials that a test lets expire.
type chain struct {
	mu     sync.Mutex
	n      int // of the valid ones
	broken bool
}

func (c *chain) valid() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint("key", c.n)
}

// expire makes the credentials invalid; renew says whether others are to be had.
func (c *chain) expire(renew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.broken = !renew
}

func (c *chain) Retrieve(context.Context) (aws.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return aws.Credentials{}, errors.New("the role is gone")
	}
	return aws.Credentials{AccessKeyID: fmt.Sprint("key", c.n), SecretAccessKey: "secret"}, nil
}

// What crashes leave behind is looked for now and then while the job runs, not
// only at its start, and a sweep that fails harms nothing.
func TestSweepsNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failing atomic.Bool
		c, stop := startClocked(t, func(kind fakes3.Kind, r *http.Request) (*http.Response, error) {
			if failing.Load() && kind == fakes3.List {
				return fakes3.Error(r, http.StatusForbidden, "AccessDenied")
			}
			return nil, nil
		}, func(cfg *engine.Config) {
			cfg.Checkpoint.Interval, cfg.Checkpoint.Keep = 30*time.Second, 1000 // nothing is retired
			cfg.SweepInterval = 10 * time.Minute
		})
		time.Sleep(time.Minute)
		orphan := "count/" + manifest.DataName{ID: 1, Epoch: 1, Operator: "count", N: 99, Ext: manifest.ExtSST}.Key()
		put := func() {
			t.Helper()
			if _, err := c.store.Put(t.Context(), orphan, objectstore.Bytes([]byte("orphan")), objectstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		there := func() bool {
			_, err := c.store.Stat(t.Context(), orphan)
			return err == nil
		}
		put()
		failing.Store(true)
		time.Sleep(10 * time.Minute)
		if !there() {
			t.Error("orphan is gone, though nothing could be listed")
		}
		failing.Store(false)
		lists := c.server.Requests()[fakes3.List]
		time.Sleep(10 * time.Minute)
		if there() {
			t.Error("orphan is still there after a sweep")
		}
		time.Sleep(30 * time.Minute)
		if n := c.server.Requests()[fakes3.List] - lists; n < 4*4 || n > 4*8 {
			t.Errorf("%d listings in 4 sweeps", n)
		}
		stop()
		if _, aborted := c.checkpoints(); aborted > 0 || len(c.failed) > 0 {
			t.Errorf("%d checkpoints aborted, failures: %v", aborted, c.failed)
		}
	})
}

// Objects that must not be deleted, for they are locked, hold up nothing: the
// job goes on, and what was refused is deleted once it may be.
func TestF45_LockedObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locked atomic.Bool
		locked.Store(true)
		c, stop := startClocked(t, func(kind fakes3.Kind, r *http.Request) (*http.Response, error) {
			if kind != fakes3.Delete || !locked.Load() {
				return nil, nil
			}
			return refuseDeletes(r)
		}, nil)
		manifests := func() (n int) {
			for _, err := range c.store.List(t.Context(), "count/"+manifest.ManifestsPrefix, "") {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			return n
		}
		time.Sleep(2 * time.Minute)
		done, aborted := c.checkpoints()
		if n := manifests(); done < 115 || aborted > 0 || n < 115 {
			t.Errorf("%d checkpoints, %d aborted, %d manifests left; want all", done, aborted, n)
		}
		locked.Store(false)
		time.Sleep(time.Minute)
		stop()
		if n := manifests(); n != 3 || len(c.failed) > 0 {
			t.Errorf("%d manifests are left, want the 3 that are kept; failures: %v", n, c.failed)
		}
	})
}

var keyElement = regexp.MustCompile("<Key>[^<]*</Key>")

// refuseDeletes is the answer of a bucket in which every object is locked.
func refuseDeletes(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><DeleteResult>`)
	for _, key := range keyElement.FindAllString(string(body), -1) {
		fmt.Fprintf(&b, "<Error>%s<Code>AccessDenied</Code><Message>object is locked</Message></Error>", key)
	}
	b.WriteString("</DeleteResult>")
	rec := httptest.NewRecorder()
	rec.WriteString(b.String())
	return rec.Result(), nil
}
