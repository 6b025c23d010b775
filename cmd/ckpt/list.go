package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
)

// checkpointDoc is a checkpoint as HEAD lists it.
type checkpointDoc struct {
	ID        manifest.ID    `json:"id"`
	Epoch     manifest.Epoch `json:"epoch"`
	Kind      manifest.Kind  `json:"kind"`
	Time      time.Time      `json:"time"`
	TMax      time.Duration  `json:"t_max_ns"`
	Duration  time.Duration  `json:"duration_ns"`
	NewBytes  int64          `json:"new_bytes"`
	FullBytes int64          `json:"full_bytes"`
	KeyIDs    []string       `json:"key_ids,omitempty"`
}

func newCheckpointDoc(e catalog.Entry) checkpointDoc {
	return checkpointDoc{
		ID: e.ID, Epoch: e.Epoch, Kind: e.Kind, Time: e.Time.UTC(), TMax: e.TMax, Duration: e.Duration,
		NewBytes: e.NewBytes, FullBytes: e.FullBytes, KeyIDs: e.KeyIDs,
	}
}

// listDoc is a row of list.
type listDoc struct {
	checkpointDoc
	Objects int64 `json:"objects"`
}

const listHelp = `List the checkpoints of a job, newest last.

T_MAX is the longest time from the first barrier at a subtask to its report.
NEW is what was uploaded for the checkpoint, FULL all that a restore of it
reads, OBJECTS how many objects that is.

--json prints an array of objects:
  id, epoch      numbers
  kind           "checkpoint", "final", "stop" or "savepoint"
  time           when it was triggered
  t_max_ns       see T_MAX
  duration_ns    from the trigger to the last report
  new_bytes, full_bytes, objects
  key_ids        of the keys that reading it takes; only if it is encrypted`

func (a *app) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the checkpoints of a job",
		Long:  listHelp,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.close()
			head, err := s.head(cmd.Context())
			if err != nil {
				return err
			}
			return a.printList(head.Checkpoints)
		},
	}
}

func (a *app) printList(entries []catalog.Entry) error {
	if a.json {
		docs := make([]listDoc, len(entries))
		for i, e := range entries {
			docs[i] = listDoc{newCheckpointDoc(e), e.Objects}
		}
		return a.printJSON(docs)
	}
	if len(entries) == 0 {
		a.note("job %s has no checkpoint yet", a.job)
		return nil
	}
	t := newTable(a.stdout, "id", "epoch", "kind", "time", "t_max", "new", "full", "objects")
	for _, e := range entries {
		t.AppendRow([]any{
			uint64(e.ID), uint64(e.Epoch), printable(string(e.Kind)), timeText(e.Time), durationText(e.TMax),
			bytesText(e.NewBytes), bytesText(e.FullBytes), e.Objects,
		})
	}
	t.Render()
	return nil
}
