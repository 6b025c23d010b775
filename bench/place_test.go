package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ckpt-io/ckpt/bench/internal/load"
	"github.com/ckpt-io/ckpt/bench/internal/peer"
	"github.com/ckpt-io/ckpt/bench/internal/wire"
	"github.com/ckpt-io/ckpt/engine/state"
	"github.com/ckpt-io/ckpt/objectstore"
	"github.com/ckpt-io/ckpt/objectstore/file"
	"github.com/ckpt-io/ckpt/objectstore/s3"
)

// place is an object store for the whole run.
type place struct {
	name   string
	server *peer.Server // nil: a directory
	proxy  *wire.Proxy
	direct objectstore.Store // past the proxy
	store  objectstore.Store // through it
	counts func() wire.Counts
	dir    string // of the objects as files by their keys; "" if it has none

	built map[string]bool // fixtures
	uses  int
}

// Names of the places.
const (
	versitygw = "versitygw"
	minio     = "minio"
	directory = "directory"
)

var (
	places = make(map[string]*place)
	tools  = peer.Tools{Dir: filepath.Join("..", ".cache", "bin")}
)

// at returns a place, which is started when it is first asked for, or skips
// the benchmark if there is no program for it.
func at(b *testing.B, name string) *place {
	b.Helper()
	if p := places[name]; p != nil {
		return p
	}
	p, err := startPlace(b.Context(), name)
	if errors.Is(err, peer.ErrMissing) {
		rec.skip(b, name, err)
		b.Skip(err)
	}
	must(b, err)
	places[name] = p
	return p
}

func startPlace(ctx context.Context, name string) (*place, error) {
	p := &place{name: name, built: make(map[string]bool)}
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, err
	}
	if name == directory {
		store, err := file.Open(dir, file.Options{Create: true})
		counted := wire.NewStore(store)
		p.direct, p.store, p.counts, p.dir = store, counted, counted.Counts, dir
		return p, err
	}
	binary, err := tools.Find(name)
	if err != nil {
		return nil, err
	}
	if p.server, err = peer.StartServer(context.WithoutCancel(ctx), name, binary, dir); err != nil {
		return nil, err
	}
	if p.proxy, err = wire.NewProxy(p.server.Endpoint); err != nil {
		return nil, err
	}
	if name == versitygw {
		p.dir = filepath.Join(dir, peer.Bucket)
	}
	p.counts = p.proxy.Counts
	if p.direct, err = openS3(ctx, p.server.Endpoint); err != nil {
		return nil, err
	}
	p.store, err = openS3(ctx, p.proxy.URL)
	return p, err
}

func openS3(ctx context.Context, endpoint string) (objectstore.Store, error) {
	return s3.Open(ctx, s3.Options{
		Bucket: peer.Bucket, Endpoint: endpoint, Region: peer.Region, PathStyle: true, Credentials: peer.Credentials(),
	})
}

func closePlaces() {
	for _, p := range places {
		if p.server != nil {
			p.proxy.Close()
			p.server.Close()
		}
	}
}

// raw is a client of the place without our code, past the proxy if direct.
func (p *place) raw(direct bool) peer.Raw {
	endpoint := p.server.Endpoint
	if !direct {
		endpoint = p.proxy.URL
	}
	return peer.Raw{Client: peer.Client(endpoint), Prefix: p.fresh("raw"), Parallel: 8}
}

// fresh is a prefix that nobody has used.
func (p *place) fresh(name string) string {
	p.uses++
	return fmt.Sprintf("%s-%d", name, p.uses)
}

// materialize says when a state gets a new base.
type materialize = state.MaterializePolicy

// always makes a new base whenever there is none under way, never none at all.
func always() materialize { return materialize{MaxDeltas: 1} }
func never() materialize  { return byCount(-1) }

// byCount makes a new base by the number of deltas alone.
func byCount(deltas int) materialize { return materialize{MaxDeltas: deltas, MinBytes: math.MaxInt64} }

// fillOverlay makes the tables of a state that is filled in the order of its
// keys about as large as compactions would: 8 MB.
const fillOverlay = 32 << 20

// fixture returns the prefix of a stored state: a base, with one checkpoint of
// changes over it. It is made once a run.
func (p *place) fixture(b *testing.B, stateMB, tasks int) string {
	b.Helper()
	prefix := fmt.Sprintf("fixture-%d-%d", stateMB, tasks)
	if p.built[prefix] {
		return prefix
	}
	j := p.open(b, objectstore.Prefix(p.direct, prefix), load.Options{
		Tasks: tasks, Keys: load.Keys(int64(stateMB) * mb), Materialize: always(), OverlayBytes: fillOverlay,
	})
	must(b, j.Fill())
	must(b, j.Settle(b.Context()))
	must(b, j.Close())
	j = p.open(b, objectstore.Prefix(p.direct, prefix), load.Options{Tasks: tasks, Keys: load.Keys(int64(stateMB) * mb), Materialize: never()})
	must(b, j.Change(load.Keys(int64(stateMB)*mb)*conf.changed/100))
	_, err := j.Checkpoint(b.Context())
	must(b, err)
	must(b, j.Collect(b.Context()))
	must(b, j.Close())
	p.built[prefix] = true
	return prefix
}

// open opens a job in a directory of its own.
func (p *place) open(b testing.TB, store objectstore.Store, opts load.Options) *load.Job {
	b.Helper()
	opts.Store = store
	dir, err := os.MkdirTemp(root, "state")
	must(b, err)
	opts.Dir = filepath.Join(dir, "tasks")
	j, err := load.Open(b.Context(), opts)
	must(b, err)
	return j
}

// clone makes a copy of what is stored under a prefix, for a benchmark that
// changes it, and returns its prefix.
func (p *place) clone(b *testing.B, from string) string {
	b.Helper()
	to := p.fresh("clone")
	if p.dir == "" {
		must(b, p.copyObjects(b.Context(), from, to))
		return to
	}
	// The stores never change a file in place: a link is as good as a copy.
	source := filepath.Join(p.dir, from)
	must(b, filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(p.dir, to, strings.TrimPrefix(path, source))
		if d.IsDir() {
			return os.MkdirAll(target, 0o777)
		}
		return os.Link(path, target)
	}))
	return to
}

func (p *place) copyObjects(ctx context.Context, from, to string) error {
	client := peer.Client(p.server.Endpoint)
	for info, err := range p.direct.List(ctx, from+"/", "") {
		if err != nil {
			return err
		}
		_, err := client.CopyObject(ctx, &awss3.CopyObjectInput{
			Bucket: aws.String(peer.Bucket), Key: aws.String(to + strings.TrimPrefix(info.Key, from)),
			CopySource: aws.String(peer.Bucket + "/" + info.Key),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// drop removes what is stored under a prefix.
func (p *place) drop(b *testing.B, prefix string) {
	b.Helper()
	if p.dir != "" {
		must(b, os.RemoveAll(filepath.Join(p.dir, prefix)))
		return
	}
	var keys []string
	for info, err := range p.direct.List(b.Context(), prefix+"/", "") {
		must(b, err)
		keys = append(keys, info.Key)
	}
	must(b, p.direct.Delete(b.Context(), keys...))
}
