package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Raw puts and gets objects with nothing but the SDK's client.
type Raw struct {
	Client   *s3.Client
	Prefix   string // of what PutAll writes
	Parallel int
}

// PutAll stores the bodies, each with its CRC32C for the server and its
// SHA-256 for whoever would keep it, and then the last ones one after the
// other: a commit.
func (r Raw) PutAll(ctx context.Context, bodies [][]byte, last ...[]byte) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.Parallel)
	for i, body := range bodies {
		g.Go(func() error { return r.put(gctx, strconv.Itoa(i), body) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, body := range last {
		if err := r.put(ctx, "last-"+strconv.Itoa(i), body); err != nil {
			return err
		}
	}
	return nil
}

func (r Raw) put(ctx context.Context, name string, body []byte) error {
	if digest := sha256.Sum256(body); digest == ([sha256.Size]byte{}) {
		return fmt.Errorf("put %s: no digest", name) // or the compiler leaves it out
	}
	crc := binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli))
	_, err := r.Client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String(Bucket), Key: aws.String(r.Prefix + "/" + name), Body: bytes.NewReader(body),
		ContentLength: aws.Int64(int64(len(body))), ChecksumCRC32C: aws.String(base64.StdEncoding.EncodeToString(crc)),
	})
	return err
}

// PutFiles stores the files of a directory under their names.
func (r Raw) PutFiles(ctx context.Context, dir string, names []string) (bytes int64, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.Parallel)
	sizes := make([]int64, len(names))
	for i, name := range names {
		g.Go(func() error {
			body, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			sizes[i] = int64(len(body))
			return r.put(ctx, name, body)
		})
	}
	err = g.Wait()
	for _, n := range sizes {
		bytes += n
	}
	return bytes, err
}

// Get reads one object into memory.
func (r Raw) Get(ctx context.Context, key string) ([]byte, error) {
	out, err := r.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(Bucket), Key: &key})
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

// GetAll reads the objects into files of a directory that exists, and computes
// the SHA-256 of each on the way.
func (r Raw) GetAll(ctx context.Context, keys []string, dir string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.Parallel)
	for i, key := range keys {
		g.Go(func() error { return r.getFile(ctx, key, filepath.Join(dir, strconv.Itoa(i))) })
	}
	return g.Wait()
}

func (r Raw) getFile(ctx context.Context, key, path string) error {
	out, err := r.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(Bucket), Key: &key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	digest := sha256.New()
	if _, err := io.CopyBuffer(io.MultiWriter(f, digest), out.Body, make([]byte, 128<<10)); err != nil {
		return fmt.Errorf("get %s: %w", key, err)
	}
	if sum := digest.Sum(nil); len(sum) != sha256.Size {
		return fmt.Errorf("get %s: no digest", key)
	}
	return f.Close()
}
