package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/internal/exit"
	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/objectstore"
)

// probeDoc is what probe found out about a store that is safe.
type probeDoc struct {
	Safe          bool `json:"safe"`
	UnquotedETags bool `json:"unquoted_etags"`
	DeleteDenied  bool `json:"delete_denied"`
}

const probeHelp = `Find out by trying whether a store is safe to commit on: whether it keeps to the
conditions of a write, also when eight writers race. It writes a few small
objects below probe/ (below the job's prefix if --job is given) and removes them.

It fails with exit status 6 if the store is not safe, cannot be reached or
refuses the credentials.

--json prints an object:
  safe            true
  unquoted_etags  whether the store compares ETags only without their quotes
  delete_denied   whether the credentials may not delete: gc will not work`

func (a *app) probeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "probe",
		Short: "Find out whether a store is safe to commit on",
		Long:  probeHelp,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			store, err := a.openStore(cmd.Context())
			if err != nil {
				return err
			}
			defer closeStore(store)
			prefix := manifest.ProbePrefix
			if a.job != "" {
				if !manifest.ValidJob(a.job) {
					return exit.Usagef("%q cannot be a job's name", a.job)
				}
				prefix = a.storeKey(prefix)
			}
			caps, err := objectstore.Probe(cmd.Context(), store, prefix)
			if err != nil {
				return err
			}
			return a.printProbe(probeDoc{Safe: true, UnquotedETags: caps.UnquotedETags, DeleteDenied: caps.DeleteDenied})
		},
	}
}

func (a *app) printProbe(doc probeDoc) error {
	if a.json {
		return a.printJSON(doc)
	}
	fmt.Fprintln(a.stdout, "safe: the store keeps to the conditions of a write")
	if doc.UnquotedETags {
		fmt.Fprintln(a.stdout, "it compares ETags without their quotes, which ckpt takes care of")
	}
	if doc.DeleteDenied {
		fmt.Fprintln(a.stdout, "the credentials may not delete: gc needs others, and the objects of this probe stay")
	}
	return nil
}
