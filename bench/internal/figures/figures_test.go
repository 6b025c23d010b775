package figures

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestMedianAndQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		median float64
		p99    float64
	}{
		{nil, 0, 0},
		{[]float64{3}, 3, 3},
		{[]float64{9, 1, 5}, 5, 9},
		{[]float64{4, 1, 2, 3}, 2.5, 4},
	} {
		if got := Median(c.values); got != c.median {
			t.Errorf("median of %v: %g, want %g", c.values, got, c.median)
		}
		if got := Quantile(c.values, 0.99); got != c.p99 {
			t.Errorf("p99 of %v: %g, want %g", c.values, got, c.p99)
		}
	}
	var hundred []int
	for i := range 200 {
		hundred = append(hundred, 200-i)
	}
	if got := Quantile(hundred, 0.99); got != 198 {
		t.Errorf("p99 of 1 to 200: %d, want 198", got)
	}
	if got := Quantile(hundred, 0); got != 1 {
		t.Errorf("p0 of 1 to 200: %d, want 1", got)
	}
}

func TestBars(t *testing.T) {
	most, least := Bar{Limit: 0.5}, Bar{Limit: 0.95, AtLeast: true}
	for _, c := range []struct {
		bar   Bar
		value float64
		want  bool
	}{{most, 0.5, true}, {most, 0.51, false}, {most, 0, true}, {least, 0.95, true}, {least, 0.94, false}, {least, 2, true}} {
		if got := c.bar.Holds(c.value); got != c.want {
			t.Errorf("%g %v: %t, want %t", c.value, c.bar, got, c.want)
		}
	}
}

// A figure is the median of the ratios of its rounds, not the ratio of medians
// or sums.
func TestCompute(t *testing.T) {
	d := &Data{Commit: "c", Samples: []Sample{
		{Figure: "another", Unit: "MB", Ours: 7},
		{Figure: Link, Unit: "s", Ours: 3, Peer: 1},
		{Figure: Link, Unit: "s", Round: 1, Ours: 1, Peer: 1},
		{Figure: Link, Unit: "s", Round: 2, Ours: 10, Peer: 9},
		{Figure: Throughput, Unit: "records/s", Ours: 94, Peer: 100},
		{Figure: CPU, Unit: "s/GB", Ours: 6, Peer: 3},
	}}
	got := Compute(d)
	want := []struct {
		figure string
		value  float64
		unit   string
		bar    string
		holds  bool
		runs   int
	}{
		{Link, 1.111, Ratio, "<= 1.15", true, 3},
		{CPU, 2, Ratio, "", false, 1},
		{Throughput, 0.94, Ratio, ">= 0.95", false, 1},
		{"another", 7, "MB", "", false, 1},
	}
	if len(got) != len(want) {
		t.Fatalf("%d figures, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		g := got[i]
		if g.Figure != w.figure || g.Value != w.value || g.Unit != w.unit || g.Runs != w.runs {
			t.Errorf("got %+v, want %+v", g, w)
		}
		if w.bar == "" {
			if g.Bar != nil || g.Holds != nil {
				t.Errorf("%s has a bar", g.Figure)
			}
		} else if g.Bar == nil || g.Holds == nil || *g.Bar != w.bar || *g.Holds != w.holds {
			t.Errorf("%s: bar %v, holds %v, want %s, %t", g.Figure, g.Bar, g.Holds, w.bar, w.holds)
		}
	}
}

func TestPlots(t *testing.T) {
	d := &Data{Points: []Point{
		{PlotSize, "T", 1000, 4}, {PlotSize, "T", 100, 1}, {PlotSize, "T", 1000, 2}, {PlotSize, "T", 1000, 3},
		{PlotSize, "R", 100, 9}, {"unknown", "x", 1, 1},
	}}
	got := Plots(d)
	want := []Series{{"T", [][2]float64{{100, 1}, {1000, 3}}}, {"R", [][2]float64{{100, 9}}}}
	if len(got) != 1 || got[0].Name != PlotSize || !reflect.DeepEqual(got[0].Series, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDataRoundTrip(t *testing.T) {
	want := &Data{
		Machine: Machine{CPU: "x", CPUs: 2, Load: 0.5}, Config: map[string]string{"mb": "1000"},
		Samples: []Sample{{Figure: Pause, Round: 1, Unit: "µs", Ours: 0.1 + 0.2, Peer: 1e9}, {Figure: `"points": null`}},
		Points:  []Point{{"p", "s", 1, 2}},
	}
	path := filepath.Join(t.TempDir(), "samples.json")
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The stored report is what its raw samples give: values, bars and whether
// they hold.
func TestStoredReportFollowsFromItsSamples(t *testing.T) {
	dir := filepath.Join("..", "..", "results")
	d, err := Read(filepath.Join(dir, "samples.json"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "latest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var stored []Figure
	if err := json.Unmarshal(raw, &stored); err != nil {
		t.Fatal(err)
	}
	want := Compute(d)
	if len(stored) != len(want) || len(want) == 0 {
		t.Fatalf("%d figures are stored, the samples give %d", len(stored), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(stored[i], want[i]) {
			t.Errorf("stored:\n%s\nthe samples give:\n%s", asJSON(t, stored[i]), asJSON(t, want[i]))
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
