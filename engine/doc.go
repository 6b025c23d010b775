// Package engine runs a dataflow job: sources, operators and sinks in parallel
// subtasks, with keyed state and output that are exactly once over any crash.
// When to checkpoint is left to package coordinator, what a checkpoint is made
// of to engine/state, and which checkpoint counts to manifest/catalog.
//
// # A job
//
// A [Job] is a graph, built with typed functions and run by [Run]:
//
//	job := engine.NewJob("wordcount")
//	lines := engine.From(job, "lines", source)
//	words := engine.FlatMap(lines, "split", split)
//	counts := engine.Process(engine.KeyBy(words, state.String, identity), "count", newCounter)
//	engine.To(counts, "out", sink)
//	err := engine.Run(ctx, job, engine.Config{Store: store})
//
// Every operator has a uid, under which its state is found again. Building
// never fails half way: all mistakes of a graph are reported at once by Run.
//
// # Tasks
//
// Operators that need no exchange between them are chained: the calls of one
// subtask of a chain run in one goroutine, a task. Between chains records
// travel in batches through an exchange with bounded queues, so that a slow
// task holds back those before it. A keyed exchange computes the key group of
// a record once; it picks the receiving subtask and is part of the state's key.
//
// # Checkpoints
//
// The coordinator triggers the sources, which put a barrier into their output.
// A task with several input channels stops reading those whose barrier came
// until it came on all (alignment), passes the barrier on, captures the state
// of its operators (the only pause) and goes on. A goroutine of the task waits
// until what was captured is durable and reports, in the order of the
// barriers. When all subtasks have reported, the checkpoint is committed, and
// sinks make its output visible.
//
// # Starting, failing, ending
//
// Any start of a job, also a restart inside the process, is a takeover with a
// new epoch (rule R2). It reads the newest checkpoint, redistributes its key
// groups, splits and prepared output over the subtasks of today, commits that
// output before anything is read, and runs. A failure of any task ends the
// epoch, and the restart strategy decides about the next. When all sources are
// exhausted, a final checkpoint is taken; once its output is committed Run
// returns nil.
package engine
