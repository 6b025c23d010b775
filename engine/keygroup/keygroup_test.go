package keygroup

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// vectors were computed by Flink's own classes; testdata/flink_vectors.json
// names their version.
type vectors struct {
	Hash []struct {
		H         int32
		Murmur    uint32
		Group128  uint16 `json:"kg128"`
		Group1024 uint16 `json:"kg1024"`
		GroupMax  uint16 `json:"kg32768"`
	}
	String []struct {
		K         string
		JavaHash  int32
		Group128  uint16 `json:"kg128"`
		Group1024 uint16 `json:"kg1024"`
		Op4       int    `json:"op_128_4"`
		Op7       int    `json:"op_128_7"`
	}
	Int64 []struct {
		K        string
		Group128 uint16 `json:"kg128"`
		Op3      int    `json:"op_128_3"`
	}
	Ranges []struct {
		Max, P int
		R      [][2]uint16
	}
	DefaultMaxParallelism [][2]int
	SweepInts             string `json:"rolling31_int_-50000_50000_kg128"`
	SweepUsers            string `json:"rolling31_user-0..99999_kg128"`
	UsersPerOp            [4]int `json:"users_per_op_128_4"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/flink_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Hash) == 0 || len(v.String) == 0 || len(v.Int64) == 0 || len(v.Ranges) == 0 || len(v.DefaultMaxParallelism) == 0 {
		t.Fatal("the vectors are incomplete")
	}
	return v
}

func int32Key(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)^1<<31) }
func int64Key(v int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(v)^1<<63) }

func TestFlinkHashVectors(t *testing.T) {
	for _, v := range readVectors(t).Hash {
		key := int32Key(v.H)
		if got := FlinkInt32.Hash(key); got != v.Murmur {
			t.Errorf("hash of %d = %d, want %d", v.H, got, v.Murmur)
		}
		for limit, want := range map[int]uint16{128: v.Group128, 1024: v.Group1024, 32768: v.GroupMax} {
			if got := Of(FlinkInt32, key, limit); got != want {
				t.Errorf("key group of %d of %d = %d, want %d", v.H, limit, got, want)
			}
		}
	}
}

func TestFlinkStringVectors(t *testing.T) {
	for _, v := range readVectors(t).String {
		if got := javaStringHash([]byte(v.K)); got != v.JavaHash {
			t.Errorf("hash code of %q = %d, want %d", v.K, got, v.JavaHash)
		}
		group := Of(FlinkString, []byte(v.K), 128)
		if group != v.Group128 {
			t.Errorf("key group of %q = %d, want %d", v.K, group, v.Group128)
		}
		if got := Of(FlinkString, []byte(v.K), 1024); got != v.Group1024 {
			t.Errorf("key group of %q of 1024 = %d, want %d", v.K, got, v.Group1024)
		}
		if got := Subtask(128, 4, group); got != v.Op4 {
			t.Errorf("subtask of %q of 4 = %d, want %d", v.K, got, v.Op4)
		}
		if got := Subtask(128, 7, group); got != v.Op7 {
			t.Errorf("subtask of %q of 7 = %d, want %d", v.K, got, v.Op7)
		}
	}
}

func TestFlinkInt64Vectors(t *testing.T) {
	for _, v := range readVectors(t).Int64 {
		k, err := strconv.ParseInt(v.K, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		group := Of(FlinkInt64, int64Key(k), 128)
		if group != v.Group128 {
			t.Errorf("key group of %d = %d, want %d", k, group, v.Group128)
		}
		if got := Subtask(128, 3, group); got != v.Op3 {
			t.Errorf("subtask of %d of 3 = %d, want %d", k, got, v.Op3)
		}
	}
}

func TestFlinkSweeps(t *testing.T) {
	v := readVectors(t)
	var sum int64
	for i := int32(-50000); i < 50000; i++ {
		sum = sum*31 + int64(Of(FlinkInt32, int32Key(i), 128))
	}
	if got := strconv.FormatInt(sum, 10); got != v.SweepInts {
		t.Errorf("sweep of integers = %s, want %s", got, v.SweepInts)
	}
	sum = 0
	var perOp [4]int
	for i := range 100000 {
		group := Of(FlinkString, []byte("user-"+strconv.Itoa(i)), 128)
		sum = sum*31 + int64(group)
		perOp[Subtask(128, 4, group)]++
	}
	if got := strconv.FormatInt(sum, 10); got != v.SweepUsers {
		t.Errorf("sweep of users = %s, want %s", got, v.SweepUsers)
	}
	if perOp != v.UsersPerOp {
		t.Errorf("users per subtask = %v, want %v", perOp, v.UsersPerOp)
	}
}

func TestRangeVectors(t *testing.T) {
	for _, v := range readVectors(t).Ranges {
		for i, want := range v.R {
			if got := Range(v.Max, v.P, i); got.First != want[0] || got.Last != want[1] {
				t.Errorf("range %d of %d, max %d = %v, want %v", i, v.P, v.Max, got, want)
			}
		}
	}
}

func TestDefaultMaxParallelism(t *testing.T) {
	for _, v := range readVectors(t).DefaultMaxParallelism {
		if got := DefaultMaxParallelism(v[0]); got != v[1] {
			t.Errorf("default max parallelism of %d = %d, want %d", v[0], got, v[1])
		}
	}
}

// Every key group is in exactly one range, the ranges are in order, and
// Subtask agrees with Range.
func TestB48_EveryKeyGroupInExactlyOneRange(t *testing.T) {
	rng := rand.New(rand.NewPCG(48, 1))
	for range 1000 {
		limit := 1 + rng.IntN(MaxParallelism)
		p := 1 + rng.IntN(min(limit, 2000))
		next := 0
		for i := range p {
			r := Range(limit, p, i)
			if int(r.First) != next || r.Last < r.First {
				t.Fatalf("max %d, p %d: range %d is %v, want it to begin at %d", limit, p, i, r, next)
			}
			if a, b := Subtask(limit, p, r.First), Subtask(limit, p, r.Last); a != i || b != i {
				t.Fatalf("max %d, p %d: the ends of range %d belong to %d and %d", limit, p, i, a, b)
			}
			next = int(r.Last) + 1
		}
		if next != limit {
			t.Fatalf("max %d, p %d: ranges end at %d", limit, p, next)
		}
	}
}

// The hash of the default hasher is frozen: these are the published vectors of
// MurmurHash3_x86_32 with seed 0.
func TestDefaultHasherIsMurmur3(t *testing.T) {
	for key, want := range map[string]uint32{
		"":                 0,
		"\x00":             0x514e28b7,
		"\x00\x00":         0x30f4c306,
		"\x00\x00\x00":     0x85f0b427,
		"\x00\x00\x00\x00": 0x2362f9de,
		"\x21\x43\x65\x87": 0xf55b516b,
		"\x21\x43\x65":     0x7e4a8634,
		"\x21\x43":         0xa0f7b07a,
		"\x21":             0x72661cf4,
		"\xff\xff\xff\xff": 0x76293b50,
		"hello":            0x248bfa47,
		"hello, world":     0x149bbb7f,
		"The quick brown fox jumps over the lazy dog.": 0xd5c48bfc,
	} {
		if got := Default.Hash([]byte(key)); got != want {
			t.Errorf("hash of %q = %#x, want %#x", key, got, want)
		}
	}
}

func TestIntegerHashersTakeAnyKey(t *testing.T) {
	for _, h := range []Hasher{FlinkInt32, FlinkInt64} {
		if got, want := h.Hash([]byte("key")), Default.Hash([]byte("key")); got != want {
			t.Errorf("%s of three bytes = %d, want %d", h.Name(), got, want)
		}
	}
}

func TestHasherNames(t *testing.T) {
	for _, name := range []string{"murmur3-32/1", "flink-string/1", "flink-int32/1", "flink-int64/1"} {
		if h, ok := ByName(name); !ok || h.Name() != name {
			t.Errorf("ByName(%q) = %v, %v", name, h, ok)
		}
	}
	if h, ok := ByName("java"); ok {
		t.Errorf("ByName of an unknown hasher gave %v", h)
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		max, p int
		ok     bool
	}{
		{1, 1, true}, {128, 128, true}, {32768, 1, true}, {32768, 32768, true},
		{0, 0, false}, {128, 0, false}, {128, 129, false}, {32769, 1, false}, {-1, -1, false},
	} {
		if err := Check(tt.max, tt.p); (err == nil) != tt.ok {
			t.Errorf("Check(%d, %d) = %v, want ok %v", tt.max, tt.p, err, tt.ok)
		}
	}
}

func BenchmarkDefaultHasher(b *testing.B) {
	key := []byte("user-123456789")
	b.SetBytes(int64(len(key)))
	var sum uint32
	for b.Loop() {
		sum += Default.Hash(key)
	}
	_ = sum
}
