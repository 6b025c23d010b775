package ckpt_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ckpt-io/ckpt"

// allowed is the import graph: for each package, which others of this module
// its non-test code may import. A package under one of the free prefixes may
// import anything; nothing else may import those, except as listed.
var allowed = map[string][]string{
	"":                          nil,
	"manifest":                  {"manifest/internal/pb"},
	"manifest/internal/pb":      nil,
	"manifest/catalog":          {"manifest", "objectstore"},
	"objectstore":               nil,
	"objectstore/s3":            {"objectstore"},
	"objectstore/file":          {"objectstore"},
	"objectstore/storetest":     {"objectstore"},
	"objectstore/seal":          {"objectstore"},
	"objectstore/storeurl":      {"objectstore", "objectstore/s3", "objectstore/file"},
	"incremental":               {"manifest", "objectstore"},
	"coordinator":               {"manifest"},
	"retention":                 {"manifest", "manifest/catalog", "objectstore"},
	"engine/keygroup":           {"manifest"},
	"engine/state":              {"manifest", "objectstore", "incremental", "engine/keygroup"},
	"engine/internal/exchange":  {"coordinator"},
	"engine":                    {"engine/internal/exchange", "manifest", "manifest/catalog", "objectstore", "objectstore/seal", "incremental", "coordinator", "retention", "engine/keygroup", "engine/state"},
	"engine/connector/file":     {"manifest", "engine"},
	"engine/connector/filesink": {"manifest", "engine"},
	"engine/connector/socket":   {"manifest", "engine"},
	"engine/connector/print":    {"manifest", "engine"},
}

// free packages are programs and tests' own: nobody else builds on them.
var free = []string{"cmd/", "examples/", "internal/", "bench"}

// forbidden are imports of others that a package must do without.
var forbidden = map[string][]string{
	"manifest":         {"os", "net/http", "github.com/cockroachdb/pebble/v2"},
	"manifest/catalog": {"net/http", "github.com/cockroachdb/pebble/v2"},
	"coordinator":      {"os", "net/http", "github.com/cockroachdb/pebble/v2"},
	"retention":        {"net/http", "github.com/cockroachdb/pebble/v2"},
	"objectstore":      {"net/http", "github.com/aws/aws-sdk-go-v2/service/s3"},
	"engine":           {"net/http", "github.com/aws/aws-sdk-go-v2/service/s3"},
}

func isFree(pkg string) bool {
	return slices.ContainsFunc(free, func(p string) bool { return strings.HasPrefix(pkg, p) })
}

func TestImportGraph(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		checkImports(t, strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/"), p.Imports)
	}
}

func checkImports(t *testing.T, pkg string, imports []string) {
	for _, imp := range imports {
		if slices.Contains(forbidden[pkg], imp) {
			t.Errorf("%s imports %s, which it must do without", pkg, imp)
		}
	}
	if isFree(pkg) {
		return
	}
	may, known := allowed[pkg]
	if !known {
		t.Errorf("package %q is not in the import graph: add it to allowed, and to README's map", pkg)
	}
	for _, imp := range imports {
		ours, ok := strings.CutPrefix(imp, module+"/")
		if ok && !slices.Contains(may, ours) {
			t.Errorf("%s imports %s; it may import only %v of ours", pkg, ours, may)
		}
	}
}
