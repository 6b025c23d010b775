package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrMissing is a tool that is not on this machine. Its error says how to get
// it.
var ErrMissing = errors.New("tool is missing")

// Tools finds the programs that the benchmarks start.
type Tools struct {
	// Dir holds those that the makefile builds from their pinned modules.
	Dir string
}

// Find returns the path of a program. Those of Dir come first, unless an
// environment variable CKPT_<NAME> names another.
func (t Tools) Find(name string) (string, error) {
	if path := os.Getenv("CKPT_" + strings.ToUpper(name)); path != "" {
		return path, nil
	}
	path := filepath.Join(t.Dir, name)
	if _, err := os.Stat(path); err == nil {
		return filepath.Abs(path)
	}
	if name != "restic" {
		return "", fmt.Errorf("%s: %w: make bench-tools builds it", name, ErrMissing)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w: apt-get install restic", name, ErrMissing)
	}
	return path, nil
}

// Rclone is `rclone sync` of a directory to a prefix of the bucket.
type Rclone struct {
	Binary, Endpoint, Prefix string
	// Tuned makes it as fast as its options allow: more transfers, sizes
	// compared only, no checks of what it wrote.
	Tuned bool
}

// Sync makes the prefix hold exactly the files of dir.
func (r Rclone) Sync(ctx context.Context, dir string) error {
	args := []string{"sync", "--config", os.DevNull, "--retries", "1", dir, ":s3:" + Bucket + "/" + r.Prefix}
	if r.Tuned {
		args = append(args, "--transfers", "16", "--checkers", "32", "--fast-list", "--size-only", "--s3-no-check-bucket", "--s3-no-head")
	}
	return run(ctx, r.Binary, args, "RCLONE_S3_PROVIDER=Other", "RCLONE_S3_ENDPOINT="+r.Endpoint,
		"RCLONE_S3_REGION="+Region, "RCLONE_S3_ACCESS_KEY_ID="+AccessKey, "RCLONE_S3_SECRET_ACCESS_KEY="+SecretKey,
		"RCLONE_S3_FORCE_PATH_STYLE=true")
}

// Restic is `restic backup` of a directory into a repository in the bucket.
type Restic struct{ Binary, Endpoint, Prefix, Cache string }

// Init makes the repository.
func (r Restic) Init(ctx context.Context) error { return r.run(ctx, "init") }

// Backup saves dir as a new snapshot.
func (r Restic) Backup(ctx context.Context, dir string) error { return r.run(ctx, "backup", dir) }

func (r Restic) run(ctx context.Context, args ...string) error {
	return run(ctx, r.Binary, args, "RESTIC_REPOSITORY=s3:"+r.Endpoint+"/"+Bucket+"/"+r.Prefix,
		"RESTIC_PASSWORD=bench", "RESTIC_CACHE_DIR="+r.Cache,
		"AWS_ACCESS_KEY_ID="+AccessKey, "AWS_SECRET_ACCESS_KEY="+SecretKey, "AWS_DEFAULT_REGION="+Region)
}

func run(ctx context.Context, binary string, args []string, env ...string) error {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(binary), args[0], err, out.String())
	}
	return nil
}
