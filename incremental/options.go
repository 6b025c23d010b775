package incremental

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/objstorage/remote"
)

// FormatMajorVersion is that of the databases we make. Pebble opens them with
// its default options. It is the last one before columnar blocks: with values of
// 8 bytes those made a delta 1.5 times as large as one zstd stream of its
// content, where rows take 0.93.
const FormatMajorVersion = pebble.FormatFlushableIngestExcises

const (
	// A delta is read only until it is compacted: larger blocks and a smaller
	// filter than in the database's own tables make its upload shorter.
	deltaBlockSize  = 32 << 10
	deltaFilterBits = 6
	blockSize       = 8 << 10
	filterBits      = 10
	// tableSize bounds a file of the database, so that an upload of one takes
	// less than the interval between two checkpoints.
	tableSize = 8 << 20
	// lBaseMaxBytes is the size up to which compactions of deltas rewrite the
	// level below them whole, and about what the tables take beyond the live
	// state. With Pebble's 64 MiB a base of a state of 100 MiB took 1.5 times the
	// live bytes, and small deltas twice the work (docs/materialization.md).
	lBaseMaxBytes = 16 << 20
)

// L0CompactionThreshold is the number of deltas from which they are compacted. A
// higher one takes less work for small deltas, and leaves more tables for a read
// to look into.
const L0CompactionThreshold = 4

// DBOptions are what differs between the databases of a process.
type DBOptions struct {
	FS *RecordFS // nil: NewRecordFS(nil)
	// Cache and FileCache are shared by the databases of a process; nil: the
	// database has its own.
	Cache     *pebble.Cache
	FileCache *pebble.FileCache
	// Scheduler admits the compactions of all databases; nil: the database's
	// own.
	Scheduler pebble.CompactionScheduler
	// Compression is that of the tables that compactions write. It is a valid
	// one.
	Compression Compression
	// Failed, if not nil, is called when the database cannot go on: it must
	// not be used any more but to close it. It may be called several times,
	// from any goroutine and with Pebble's locks held: it only takes note.
	Failed func(error)
	// Compacted, if not nil, is called after each compaction, from any
	// goroutine: it only takes note.
	Compacted func()
	Logger    *slog.Logger // nil: silent
}

// PebbleOptions makes the options of a state database. Such a database changes
// by Ingest alone: nothing is written through its memtables, it has no WAL, and
// ingests are held back neither by their number nor by compactions.
func PebbleOptions(o DBOptions) *pebble.Options {
	fs := o.FS
	if fs == nil {
		fs = NewRecordFS(nil)
	}
	// Statistics are read from each table when the database was opened, which
	// would ask for all of them one by one. Tables that are ingested or written
	// by compactions come with theirs. What is missing in a restored table, its
	// number of tombstones, only orders compactions, and only until the first one
	// that has the table as input: such a database compacts by size and number.
	lazy := len(fs.remoteTables()) > 0 || fs.composed()
	log := &logger{failed: o.Failed, log: o.Logger}
	opts := &pebble.Options{
		FS:                    &watchedFS{fs, log.fail},
		Cache:                 o.Cache,
		FileCache:             o.FileCache,
		FormatMajorVersion:    FormatMajorVersion,
		Logger:                log,
		DisableWAL:            true,
		NoSyncOnClose:         true,
		MemTableSize:          1 << 20, // never filled
		L0CompactionThreshold: L0CompactionThreshold,
		LBaseMaxBytes:         lBaseMaxBytes,
		L0StopWritesThreshold: 1 << 20, // bounded by the number of deltas
		MaxManifestFileSize:   512 << 10,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { log.warn("background work of the database failed", err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				log.fail(fs.corruption(info))
			},
		},
		DisableTableStats: lazy,
	}
	if o.Compacted != nil {
		opts.EventListener.CompactionEnd = func(pebble.CompactionInfo) { o.Compacted() }
	}
	opts.Experimental.CompactionScheduler = o.Scheduler
	if fs.composed() {
		opts.Experimental.RemoteStorage = remote.MakeSimpleFactory(map[remote.Locator]remote.Storage{
			"": &externalStorage{fs.remote, log.fail},
		})
		opts.MaxConcurrentDownloads = func() int { return parallelHydration }
	}
	for i := range opts.Levels {
		opts.Levels[i] = pebble.LevelOptions{
			BlockSize:    blockSize,
			FilterPolicy: bloom.FilterPolicy(filterBits),
		}
		opts.TargetFileSizes[i] = tableSize
	}
	o.Compression.set(opts)
	return opts
}

// logger takes the place of Pebble's, which ends the process. Pebble expects
// that Fatalf does not return: the database is not to be trusted when it does.
// The one call that a failing disk brings about is avoided by watchedFS.
type logger struct {
	failed func(error)
	log    *slog.Logger
}

// Fatalf implements pebble.Logger.
func (l *logger) Fatalf(format string, args ...any) {
	l.fail(fmt.Errorf("pebble: %w", fatalError(format, args)))
}

// fatalError keeps the error among the arguments, so that a full disk can be
// told from corruption.
func fatalError(format string, args []any) error {
	text := fmt.Sprintf(format, args...)
	for _, a := range args {
		if err, ok := a.(error); ok {
			return &loggedError{text: text, err: err}
		}
	}
	return errors.New(text)
}

type loggedError struct {
	text string
	err  error
}

func (e *loggedError) Error() string { return e.text }
func (e *loggedError) Unwrap() error { return e.err }

func (l *logger) fail(err error) {
	if l.failed != nil {
		l.failed(err)
	}
	// Reads of a RemoteFS are cancelled by whoever gives the database up.
	if l.log != nil && !errors.Is(err, context.Canceled) {
		l.log.Error("state database failed", "error", err)
	}
}

func (l *logger) warn(msg string, err error) {
	if l.log != nil {
		l.log.Warn(msg, "error", err)
	}
}

// Infof implements pebble.Logger.
func (l *logger) Infof(format string, args ...any) { l.print(slog.LevelDebug, format, args) }

// Errorf implements pebble.Logger.
func (l *logger) Errorf(format string, args ...any) { l.print(slog.LevelWarn, format, args) }

func (l *logger) print(level slog.Level, format string, args []any) {
	if l.log != nil && l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf("pebble: "+format, args...))
	}
}
