package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/manifest/catalog"
	"github.com/ckpt-io/ckpt/retention"
)

// versionDoc says what this program is and which formats it writes.
type versionDoc struct {
	Version    string `json:"version"`
	Revision   string `json:"revision,omitempty"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	Pebble     string `json:"pebble"`
	HeadFormat int    `json:"head_format"`
	PlanFormat int    `json:"plan_format"`
}

const versionHelp = `Print the version of ckpt and of what it was built with.

--json prints an object:
  version, revision (if known), go, platform, pebble   strings
  head_format, plan_format                             numbers`

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long:  versionHelp,
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			doc := newVersionDoc()
			if a.json {
				return a.printJSON(doc)
			}
			fmt.Fprintf(a.stdout, "ckpt %s (%s, %s, pebble %s)\n", doc.Version, doc.Go, doc.Platform, doc.Pebble)
			return nil
		},
	}
}

func newVersionDoc() versionDoc {
	doc := versionDoc{
		Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Pebble: "unknown", HeadFormat: catalog.Format, PlanFormat: retention.PlanFormat,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return doc
	}
	if info.Main.Version != "" {
		doc.Version = info.Main.Version
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/cockroachdb/pebble/v2" {
			doc.Pebble = dep.Version
		}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			doc.Revision = s.Value
		}
	}
	return doc
}
