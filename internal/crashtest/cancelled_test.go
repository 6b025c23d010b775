//go:build unix

package crashtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/s3"
	"github.com/ckpt-io/ckpt/objectstore/storetest"
)

var errCancelled = errors.New("cancelled by the test")

// TestB44_CancelledJobOnS3 runs a job in this process, on an S3 server in this
// process, and breaks it off at operations drawn by lot: requests under way may
// land while the next life has begun.
func TestB44_CancelledJobOnS3(t *testing.T) {
	t.Parallel()
	seed := uint64(number(t, "CKPT_SEED", rand.IntN(1_000_000)))
	t.Logf("CKPT_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	endpoint, backend, _ := fakeS3(t)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	store, err := s3.Open(t.Context(), s3.Options{
		Bucket: fakeBucket, Endpoint: endpoint, Region: "us-east-1", PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		RetryDelay:  time.Millisecond, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	deaths := 0
	for job := 0; deaths < number(t, "CKPT_KILLS", 6); job++ {
		prefix := fmt.Sprintf("job%d", job)
		l := newLivesOn(t, objectstore.Prefix(store, prefix), func() []string { return fakeKeys(t, backend, prefix+"/") })
		for l.cancelled(1+rng.IntN(50), rng.IntN(2) == 0) {
		}
		l.checkEnd(0)
		deaths += l.died
	}
}

// cancelled lives one more life in this process, which is broken off with the
// nth operation on its store, and with cut loses all answers from then on. It
// reports whether it was; else it came to the end.
func (l *lives) cancelled(nth int, cut bool) bool {
	l.t.Helper()
	ctx, cancel := context.WithCancelCause(l.t.Context())
	defer cancel(nil)
	faulty := storetest.NewFaulty(l.store, 0)
	var calls atomic.Int64
	faulty.Hook = func(_ context.Context, c storetest.Call) error {
		if c.Phase == storetest.Before && calls.Add(1) == int64(nth) {
			if cut {
				faulty.Cut(true)
			}
			cancel(errCancelled)
		}
		return nil
	}
	l.spec.Parallelism, l.spec.Concurrent = 1+l.died%3, 2
	var log buffer
	err := l.spec.run(ctx, faulty, &log)
	fmt.Fprintf(&l.log, "--- life %d, cancelled at operation %d, cut %v\n%s", l.died, nth, cut, log.String())
	l.checkCompleted(log.String())
	if err != nil && !errors.Is(err, errCancelled) {
		l.t.Fatalf("life ended with %v:\n%s", err, l.log.String())
	}
	l.checkLeft()
	if err == nil {
		l.checkNoState()
		return false
	}
	l.checkNoState("LOCK", "objects") // for the next life
	l.died++
	return true
}

// buffer is a log that several goroutines write to.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
