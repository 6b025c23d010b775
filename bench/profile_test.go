package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"testing"
)

// profile is a CPU profile of parts of a benchmark. It is kept as text, the
// functions that take most.
type profile struct {
	name  string
	parts []string
	file  *os.File
}

// newProfile is a profile of what runs between resume and pause.
func newProfile(name string) *profile { return &profile{name: name} }

// resume goes on, unless nobody wants a profile.
func (p *profile) resume(b *testing.B) {
	b.Helper()
	if conf.out == "" {
		return
	}
	var err error
	p.file, err = os.Create(filepath.Join(root, fmt.Sprintf("%s-%d.prof", p.name, len(p.parts))))
	must(b, err)
	must(b, pprof.StartCPUProfile(p.file))
	p.parts = append(p.parts, p.file.Name())
}

func (p *profile) pause() {
	if p.file != nil {
		pprof.StopCPUProfile()
		p.file.Close()
		p.file = nil
	}
}

func (p *profile) store(b *testing.B) {
	b.Helper()
	p.pause()
	if conf.out == "" {
		return
	}
	dir := filepath.Join(conf.out, "profiles")
	must(b, os.MkdirAll(dir, 0o777))
	var all []byte
	for _, order := range []string{"flat", "cum"} {
		args := append([]string{"tool", "pprof", "-top", "-nodecount", "40", "-" + order, os.Args[0]}, p.parts...)
		out, err := exec.CommandContext(b.Context(), "go", args...).Output()
		must(b, err)
		all = append(append(all, "by "+order+"\n"...), out...)
	}
	must(b, os.WriteFile(filepath.Join(dir, p.name+".txt"), all, 0o666))
}
