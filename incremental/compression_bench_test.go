package incremental

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// valueKinds are what compressions are compared on.
var valueKinds = []struct {
	name string
	make func(rng *rand.Rand) []byte
}{
	{"half", func(rng *rand.Rand) []byte { // 200 bytes, half of them random, half text
		v := []byte("the quick brown fox jumps over the lazy dog and runs away from it, as it does in every test of fonts")[:100]
		for range 100 {
			v = append(v, byte(rng.Uint32()))
		}
		return v
	}},
	{"json", func(rng *rand.Rand) []byte {
		countries := []string{"de", "fr", "us", "jp", "br", "in"}
		return fmt.Appendf(nil, `{"user_id":%d,"name":"user %d","country":%q,"visits":%d,"amount":%.2f,"last_seen":"2026-11-%02dT%02d:%02d:%02dZ","active":%v}`,
			rng.IntN(1e7), rng.IntN(1e5), countries[rng.IntN(len(countries))], rng.IntN(500), rng.Float64()*1000,
			1+rng.IntN(30), rng.IntN(24), rng.IntN(60), rng.IntN(60), rng.IntN(3) > 0)
	}},
	{"counter", func(rng *rand.Rand) []byte { return binary.BigEndian.AppendUint64(nil, uint64(rng.ExpFloat64()*1000)) }},
}

// BenchmarkCompression compares the compressions on tables of 12-byte keys:
// stored bytes by those of keys and values, processor time to write a delta and
// to compact it for each GB of keys and values, and of a read of one key whose
// block is in no cache. See docs/materialization.md.
func BenchmarkCompression(b *testing.B) {
	for _, kind := range valueKinds {
		entries, raw := benchEntries(kind.make)
		for _, c := range []Compression{NoCompression, Snappy, Zstd1, Zstd3, Zstd5} {
			b.Run(kind.name+"/"+string(c), func(b *testing.B) {
				var delta, tables int64
				var writing, compacting, reading time.Duration
				n := 0
				for b.Loop() {
					fs, dir := NewRecordFS(nil), b.TempDir()
					cache := pebble.NewCache(1 << 20)
					db, err := pebble.Open(dir+"/db", PebbleOptions(DBOptions{FS: fs, Cache: cache, Compression: c}))
					if err != nil {
						b.Fatal(err)
					}
					begin := cpuTime(b)
					d, err := WriteCompressedDelta(fs, dir+"/d", c, slices.Values(entries))
					if err != nil {
						b.Fatal(err)
					}
					writing += cpuTime(b) - begin
					delta = d.Size
					// The second makes the compaction write it all.
					last := entries[len(entries)-1:]
					if _, err := WriteCompressedDelta(fs, dir+"/e", c, slices.Values(append(entries[:1:1], last...))); err != nil {
						b.Fatal(err)
					}
					for _, path := range []string{dir + "/d", dir + "/e"} {
						if err := db.Ingest(b.Context(), []string{path}); err != nil {
							b.Fatal(err)
						}
					}
					begin = cpuTime(b)
					if err := db.Compact(b.Context(), []byte{0}, []byte{255}, false); err != nil {
						b.Fatal(err)
					}
					compacting += cpuTime(b) - begin
					tables = db.Metrics().Total().TablesSize
					reading += benchReads(b, db, entries)
					if err := db.Close(); err != nil {
						b.Fatal(err)
					}
					cache.Unref()
					n++
				}
				perGB := func(d time.Duration) float64 { return d.Seconds() / float64(n) * 1e9 / float64(raw) }
				b.ReportMetric(float64(delta)/float64(raw), "delta/raw")
				b.ReportMetric(float64(tables)/float64(raw), "tables/raw")
				b.ReportMetric(perGB(writing), "write-cpu-s/GB")
				b.ReportMetric(perGB(compacting), "compact-cpu-s/GB")
				b.ReportMetric(float64(reading.Microseconds())/float64(n)/benchReadCount, "cpu-µs/read")
			})
		}
	}
}

// benchEntries are about 32 MB of keys and values.
func benchEntries(value func(*rand.Rand) []byte) (entries []Entry, raw int64) {
	rng := rand.New(rand.NewPCG(7, 7))
	for i := uint64(0); raw < 32e6; i++ {
		key := binary.BigEndian.AppendUint16(nil, uint16(i>>12&127))
		key = binary.BigEndian.AppendUint64(append(key, 1, 'n'), rng.Uint64())
		e := Entry{Key: key, Value: value(rng)}
		entries = append(entries, e)
		raw += int64(len(e.Key) + len(e.Value))
	}
	slices.SortFunc(entries, func(x, y Entry) int { return slices.Compare(x.Key, y.Key) })
	return entries, raw
}

const benchReadCount = 20_000

func benchReads(b *testing.B, db *pebble.DB, entries []Entry) time.Duration {
	rng := rand.New(rand.NewPCG(8, 8))
	begin := cpuTime(b)
	for range benchReadCount {
		_, closer, err := db.Get(entries[rng.IntN(len(entries))].Key)
		if err != nil {
			b.Fatal(err)
		}
		if err := closer.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return cpuTime(b) - begin
}

// cpuTime is what the process has used of its processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
