package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ckpt": main})
}

// TestScript runs the command line as a user does. Scripts have, besides
// testscript's own commands:
//
//	seed DIR JOB N [KEYFILE]
//	                    a job with checkpoints 1 to N in the file store DIR
//	keygen FILE         a new key, before those that are in the key file
//	fence DIR JOB       another owner takes the job over
//	orphan DIR JOB ID   an object of the task for checkpoint ID that nothing names
//	stray DIR KEY       any other object
//	spoil HOW DIR JOB ID
//	                    flip a byte of, cut or remove the object that came with
//	                    checkpoint ID, or flip one of its manifest (manifest)
//	state DIR           print keys and values of a Pebble database
//	tamper DIR          change the count in one line of a demo's output
//	glob-none PATTERN   no file matches
//	ls-recursive DIR    names of all files below DIR
//	exits CODE ARGS...  run ckpt, which must end with this exit code
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("CKPT_STORE", "file://"+env.WorkDir+"/store")
			env.Setenv("CKPT_JOB", "wordcount")
			return os.Mkdir(env.WorkDir+"/store", 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"seed":         scriptSeed,
			"keygen":       scriptKeygen,
			"fence":        scriptFence,
			"orphan":       scriptOrphan,
			"stray":        scriptStray,
			"spoil":        scriptSpoil,
			"state":        scriptState,
			"tamper":       scriptTamper,
			"exits":        scriptExits,
			"glob-none":    scriptGlobNone,
			"ls-recursive": scriptLsRecursive,
		},
		RequireExplicitExec: true,
		ContinueOnError:     false,
	})
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARGS...")
	}
	err := ts.Exec("ckpt", args[1:]...)
	got := "0"
	if err != nil {
		got = exitText(err)
	}
	if got != args[0] {
		ts.Fatalf("ckpt %v: exit code %s, want %s", args[1:], got, args[0])
	}
}

// scriptTamper gives the last line of the first part another count.
func scriptTamper(ts *testscript.TestScript, _ bool, args []string) {
	parts, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "part-*"))
	ts.Check(err)
	data, err := os.ReadFile(parts[0])
	ts.Check(err)
	tab := bytes.LastIndexByte(data, '\t')
	ts.Check(os.WriteFile(parts[0], append(data[:tab], "\t9999999\n"...), 0o666))
}

func scriptGlobNone(ts *testscript.TestScript, _ bool, args []string) {
	names, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(names) > 0 {
		ts.Fatalf("there are %q", names)
	}
}

func scriptLsRecursive(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		fmt.Fprintf(ts.Stdout(), "%q\n", path)
		return err
	})
	ts.Check(err)
}
