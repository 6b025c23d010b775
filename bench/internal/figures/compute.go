package figures

import (
	"cmp"
	"math"
	"slices"
)

// Figure is one entry of latest.json.
type Figure struct {
	Figure string  `json:"figure"`
	Value  float64 `json:"value"` // median over the rounds; of a ratio, ours by the peer's
	Unit   string  `json:"unit"`
	// Bar is "<= 0.02" or ">= 0.95", and nil with Holds for a figure that is
	// only reported.
	Bar     *string `json:"bar"`
	Holds   *bool   `json:"holds"`
	Machine string  `json:"machine"`
	Commit  string  `json:"commit"`
	Runs    int     `json:"runs"`
}

// Ratio is the unit of figures that have a peer.
const Ratio = "ratio"

// Compute makes the figures of raw samples: first those of Rows, then the
// others as they were measured. A figure without samples is left out.
func Compute(d *Data) []Figure {
	samples := make(map[string][]Sample)
	rows := Rows()
	for _, s := range d.Samples {
		if samples[s.Figure] == nil && !slices.ContainsFunc(rows, func(r Row) bool { return r.Figure == s.Figure }) {
			rows = append(rows, Row{Figure: s.Figure})
		}
		samples[s.Figure] = append(samples[s.Figure], s)
	}
	var out []Figure
	for _, r := range rows {
		of := samples[r.Figure]
		if len(of) == 0 {
			continue
		}
		f := Figure{
			Figure: r.Figure, Value: round(value(of)), Unit: unit(of),
			Machine: d.Machine.String(), Commit: d.Commit, Runs: len(of),
		}
		if r.Bar != nil {
			bar, holds := r.Bar.String(), r.Bar.Holds(value(of))
			f.Bar, f.Holds = &bar, &holds
		}
		out = append(out, f)
	}
	return out
}

// value is the median of the rounds.
func value(samples []Sample) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = s.Ours
		if s.Peer != 0 {
			values[i] /= s.Peer
		}
	}
	return Median(values)
}

func unit(samples []Sample) string {
	if samples[0].Peer != 0 {
		return Ratio
	}
	return samples[0].Unit
}

// round keeps four digits: more are noise.
func round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// Median returns the middle of the values, the mean of the two middle ones of
// an even number, and 0 of none.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 1:
		return v[n/2]
	default:
		return (v[n/2-1] + v[n/2]) / 2
	}
}

// Quantile returns the smallest value that q of all values do not exceed, and
// 0 of none.
func Quantile[T cmp.Ordered](values []T, q float64) T {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		var zero T
		return zero
	}
	return v[max(0, int(math.Ceil(q*float64(len(v))))-1)]
}
