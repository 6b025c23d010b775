package figures

import (
	"cmp"
	"slices"
)

// Plot is a diagram: what its curves are of, and the curves.
type Plot struct {
	Name   string   `json:"name"` // of its file, without extension
	Title  string   `json:"title"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	LogX   bool     `json:"log_x"`
	LogY   bool     `json:"log_y"`
	Series []Series `json:"series"`
}

// Series is one curve, by rising X.
type Series struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
}

// Names of the diagrams.
const (
	PlotSize        = "size"
	PlotTasks       = "tasks"
	PlotChanged     = "changed"
	PlotHydration   = "hydration"
	PlotInterval    = "interval"
	PlotOverlay     = "overlay"
	PlotCache       = "cache"
	PlotMaterialize = "materialize"
	PlotRestore     = "restore"
	PlotRequests    = "requests"
)

func plots() []Plot {
	return []Plot{
		{Name: PlotSize, Title: "Size of the state", X: "state in MB", Y: "seconds", LogX: true, LogY: true},
		{Name: PlotTasks, Title: "Number of tasks", X: "tasks", Y: "seconds", LogX: true},
		{Name: PlotChanged, Title: "Changes between checkpoints", X: "% of the state changed", Y: "seconds"},
		{Name: PlotHydration, Title: "Reads of a lazily restored state", X: "% hydrated", Y: "p99 of a read in ms"},
		{Name: PlotInterval, Title: "Checkpoint interval", X: "interval in s", Y: "throughput, 1 = without checkpoints", LogX: true},
		{Name: PlotOverlay, Title: "Overlay of a task", X: "OverlayBytes in MB", Y: "updates/s, 1 = the largest overlay", LogX: true},
		{Name: PlotCache, Title: "Block cache", X: "CacheBytes in MB", Y: "reads/s", LogX: true},
		{Name: PlotMaterialize, Title: "Deltas before a new base", X: "MaxDeltas", Y: "bytes, 1 = those changed or live", LogX: true},
		{Name: PlotRestore, Title: "Recovery by mode", X: "state in MB", Y: "seconds", LogX: true, LogY: true},
		{Name: PlotRequests, Title: "Cost of the interval", X: "interval in s", Y: "per hour", LogX: true, LogY: true},
	}
}

// Plots makes the diagrams of raw points: the medians of equal X. Those
// without points are left out.
func Plots(d *Data) []Plot {
	var out []Plot
	for _, p := range plots() {
		values := make(map[string]map[float64][]float64)
		var names []string
		for _, point := range d.Points {
			if point.Plot != p.Name {
				continue
			}
			if values[point.Series] == nil {
				values[point.Series] = make(map[float64][]float64)
				names = append(names, point.Series)
			}
			values[point.Series][point.X] = append(values[point.Series][point.X], point.Y)
		}
		for _, name := range names {
			s := Series{Name: name}
			for x, ys := range values[name] {
				s.Points = append(s.Points, [2]float64{x, round(Median(ys))})
			}
			slices.SortFunc(s.Points, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })
			p.Series = append(p.Series, s)
		}
		if len(names) > 0 {
			out = append(out, p)
		}
	}
	return out
}
