package figures

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Sample is what one round of a measurement gave.
type Sample struct {
	Figure string  `json:"figure"`
	Round  int     `json:"round"`
	Unit   string  `json:"unit"` // of Ours and Peer
	Ours   float64 `json:"ours"`
	// Peer is what the peer took in the same round; 0 if the figure has none.
	Peer float64 `json:"peer,omitempty"`
}

// Point is one measured point of a curve. Several with the same X are rounds.
type Point struct {
	Plot   string  `json:"plot"`
	Series string  `json:"series"`
	X      float64 `json:"x"`
	Y      float64 `json:"y"`
}

// Skipped is a measurement that was not made.
type Skipped struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Machine is where the samples come from.
type Machine struct {
	CPU  string `json:"cpu"`
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Go   string `json:"go"`
	// Load is the one-minute load average before the first measurement.
	Load float64 `json:"load"`
}

// quiet is the load above which the machine had other things to do.
const quiet = 1

// Busy reports whether the machine had other things to do.
func (m Machine) Busy() bool { return m.Load > quiet }

// String is the machine on one line, with a warning if it was busy.
func (m Machine) String() string {
	s := fmt.Sprintf("%s, %d CPUs, %s, %s, load %.2f", m.CPU, m.CPUs, m.OS, m.Go, m.Load)
	if m.Busy() {
		s += " (BUSY: do not rely on it)"
	}
	return s
}

// Data are the raw results of one run of the benchmarks, as stored.
type Data struct {
	Machine Machine           `json:"machine"`
	Commit  string            `json:"commit"`
	Began   time.Time         `json:"began"`
	Took    string            `json:"took"`
	Config  map[string]string `json:"config"`
	Samples []Sample          `json:"samples"`
	Points  []Point           `json:"points"`
	Skipped []Skipped         `json:"skipped"`
}

// Read reads what Write wrote.
func Read(path string) (*Data, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := new(Data)
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return d, nil
}

// Write stores the data, one sample a line so that runs can be compared.
func (d *Data) Write(path string) error {
	head := *d
	head.Samples, head.Points = nil, nil
	raw, err := json.MarshalIndent(head, "", " ")
	if err != nil {
		return err
	}
	samples, err := lines(d.Samples)
	if err != nil {
		return err
	}
	points, err := lines(d.Points)
	if err != nil {
		return err
	}
	raw = bytes.Replace(raw, []byte(`"samples": null`), append([]byte(`"samples": `), samples...), 1)
	raw = bytes.Replace(raw, []byte(`"points": null`), append([]byte(`"points": `), points...), 1)
	return os.WriteFile(path, append(raw, '\n'), 0o666)
}

// lines is a list with each element on a line of its own.
func lines[T any](list []T) ([]byte, error) {
	var w bytes.Buffer
	w.WriteByte('[')
	for i, v := range list {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			w.WriteByte(',')
		}
		w.WriteString("\n  ")
		w.Write(raw)
	}
	w.WriteString("\n ]")
	return w.Bytes(), nil
}

// WriteJSON stores one of the report's own files.
func WriteJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o666)
}
