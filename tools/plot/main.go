// Command plot draws the curves of a report, one SVG file each, into the
// directory that holds its plots.json.
//
//	plot bench/results
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// diagram is one of plots.json.
type diagram struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	X      string `json:"x"`
	Y      string `json:"y"`
	LogX   bool   `json:"log_x"`
	LogY   bool   `json:"log_y"`
	Series []struct {
		Name   string       `json:"name"`
		Points [][2]float64 `json:"points"`
	} `json:"series"`
}

// colors are told apart on white, also by most who see colors differently.
var colors = []color.Color{
	color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{0, 158, 115, 255},
	color.RGBA{204, 121, 167, 255}, color.RGBA{86, 180, 233, 255}, color.RGBA{230, 159, 0, 255}, color.Black,
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: plot RESULTS-DIR")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "plots.json"))
	if err != nil {
		return err
	}
	var diagrams []diagram
	if err := json.Unmarshal(raw, &diagrams); err != nil {
		return err
	}
	for _, d := range diagrams {
		if err := d.save(filepath.Join(dir, d.Name+".svg")); err != nil {
			return fmt.Errorf("%s: %w", d.Name, err)
		}
	}
	return nil
}

func (d diagram) save(path string) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = d.Title, d.X, d.Y
	p.Legend.Top = true
	p.BackgroundColor = color.White
	p.Add(plotter.NewGrid())
	xs := make(map[float64]bool)
	for i, s := range d.Series {
		points := make(plotter.XYs, 0, len(s.Points))
		for _, at := range s.Points {
			if d.LogY && at[1] <= 0 {
				continue // has no place on the axis
			}
			points = append(points, plotter.XY{X: at[0], Y: at[1]})
			xs[at[0]] = true
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, dots.Color, dots.Shape = colors[i%len(colors)], colors[i%len(colors)], draw.CircleGlyph{}
		line.Width = vg.Points(1.5)
		p.Add(line, dots)
		p.Legend.Add(s.Name, line, dots)
	}
	if d.LogX {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, measured(xs)
	}
	if d.LogY {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	} else {
		p.Y.Min = 0
	}
	return p.Save(17*vg.Centimeter, 10*vg.Centimeter, path)
}

// measured puts the ticks where something was measured.
type measured map[float64]bool

// Ticks implements plot.Ticker.
func (m measured) Ticks(_, _ float64) (ticks []plot.Tick) {
	for x := range m {
		ticks = append(ticks, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'g', -1, 64)})
	}
	return ticks
}
