package state

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"math"
	"slices"
	"testing"
)

// The bytes are a stored format: they never change.
func TestCodecFormats(t *testing.T) {
	check(t, String, "string/1", map[string]string{"": "", "é\x00": "c3a900"})
	check(t, Int64, "int64/1", map[int64]string{
		0: "8000000000000000", -1: "7fffffffffffffff", math.MinInt64: "0000000000000000", math.MaxInt64: "ffffffffffffffff",
	})
	check(t, Int32, "int32/1", map[int32]string{0: "80000000", 1: "80000001", -1: "7fffffff", math.MinInt32: "00000000"})
	check(t, Uint64, "uint64/1", map[uint64]string{0: "0000000000000000", 258: "0000000000000102"})
	check(t, JSON[point](), "json/1", map[point]string{{X: 1}: hex.EncodeToString([]byte(`{"X":1,"Y":0}`))})
}

type point struct{ X, Y float64 }

func check[T comparable](t *testing.T, c Codec[T], name string, encodings map[T]string) {
	t.Helper()
	if c.Name() != name {
		t.Errorf("name = %q, want %q", c.Name(), name)
	}
	for v, want := range encodings {
		got, err := c.Append([]byte("before"), v)
		if err != nil || hex.EncodeToString(got) != hex.EncodeToString([]byte("before"))+want {
			t.Errorf("%s: encoding of %v = %x, %v; want %s", name, v, got, err, want)
			continue
		}
		src := bytes.Clone(got[len("before"):])
		back, err := c.Decode(src)
		clear(src) // the value must not refer to it
		if err != nil || back != v {
			t.Errorf("%s: %v comes back as %v, %v", name, v, back, err)
		}
	}
}

func TestBytesCodec(t *testing.T) {
	src := []byte("abc")
	got, err := Bytes.Decode(src)
	src[0] = 'x'
	if err != nil || string(got) != "abc" {
		t.Errorf("decoded %q, %v", got, err)
	}
	if got, err := Bytes.Decode(nil); got == nil || err != nil {
		t.Errorf("no bytes decode to %v, %v; want an empty slice", got, err)
	}
}

func TestCodecErrors(t *testing.T) {
	for _, n := range []int{0, 3, 5, 7, 9} {
		if _, err := Int64.Decode(make([]byte, n)); err == nil {
			t.Errorf("int64 of %d bytes was decoded", n)
		}
		if _, err := Uint64.Decode(make([]byte, n)); err == nil {
			t.Errorf("uint64 of %d bytes was decoded", n)
		}
		if _, err := Int32.Decode(make([]byte, n)); err == nil {
			t.Errorf("int32 of %d bytes was decoded", n)
		}
	}
	if _, err := JSON[point]().Decode([]byte("{")); err == nil {
		t.Error("half a JSON document was decoded")
	}
	if got, err := JSON[point]().Append([]byte("a"), point{X: math.NaN()}); err == nil || string(got) != "a" {
		t.Errorf("NaN was encoded as %q", got)
	}
}

func TestIntegerCodecsKeepOrder(t *testing.T) {
	values := []int64{math.MinInt64, -1 << 32, -256, -1, 0, 1, 255, 256, 1 << 40, math.MaxInt64}
	ordered := slices.IsSortedFunc(values, func(x, y int64) int {
		a, _ := Int64.Append(nil, x)
		b, _ := Int64.Append(nil, y)
		if c, _ := Int32.Append(nil, int32(x)); len(c) != 4 {
			t.Fatal("int32 of other than four bytes")
		}
		return cmp.Compare(string(a), string(b))
	})
	if !ordered {
		t.Error("encoded integers are not in order")
	}
}
