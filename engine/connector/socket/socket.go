// Package socket is a source of text lines from a TCP address, for trying
// things out. A socket cannot be read again from a position: after a failure
// the lines between the newest checkpoint and the failure are lost, so that
// exactly once does not hold; each start says so in the log. For input that can
// be replayed see package file.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ckpt-io/ckpt/engine"
	"github.com/ckpt-io/ckpt/manifest"
)

// Options are the settings of a Source.
type Options struct {
	// DialTimeout is how long a connection may take to come about; zero
	// means 10 s.
	DialTimeout time.Duration
	// MaxLineBytes is the longest line that is read, its end not counted; a
	// longer one is an error. Zero means 1 MiB.
	MaxLineBytes int
	// BatchLines is how many lines one Poll emits at most; zero means 1024.
	BatchLines int
}

// Source reads lines from one connection, whatever the parallelism: the
// subtask that holds the only split connects, the others have nothing to do.
// Lines are those of bufio.ScanLines. The input ends when the peer closes the
// connection.
type Source struct {
	address string
	opts    Options
}

var _ engine.Source[string] = (*Source)(nil)

// New makes a source that connects to address, which is host:port.
func New(address string, opts Options) (*Source, error) {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil:
	case host == "" || port == "":
		err = errors.New("want host:port")
	case opts.DialTimeout < 0 || opts.MaxLineBytes < 0 || opts.BatchLines < 0:
		err = errors.New("an option is below zero")
	default:
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return nil, fmt.Errorf("make socket source of %q: %w", address, err)
	}
	if opts.DialTimeout == 0 {
		opts.DialTimeout = 10 * time.Second
	}
	if opts.MaxLineBytes == 0 {
		opts.MaxLineBytes = 1 << 20
	}
	if opts.BatchLines == 0 {
		opts.BatchLines = 1024
	}
	return &Source{address: address, opts: opts}, nil
}

// Splits gives the one split there is.
func (s *Source) Splits(context.Context) ([]manifest.Split, error) {
	return []manifest.Split{{ID: splitID, Position: []byte(open)}}, nil
}

// Reader makes a reader, which connects when it is restored.
func (s *Source) Reader(sc engine.SourceContext) (engine.SourceReader[string], error) {
	return &reader{source: s, logger: sc.Logger}, nil
}

// The split is the connection, and its position only whether it has ended.
const (
	splitID = "connection"
	open    = "open"
	ended   = "ended"
)

func (s *Source) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: s.opts.DialTimeout}
	conn, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		if !strings.Contains(err.Error(), s.address) {
			err = fmt.Errorf("%s: %w", s.address, err)
		}
		return nil, fmt.Errorf("connect to input: %w", err)
	}
	return conn, nil
}
