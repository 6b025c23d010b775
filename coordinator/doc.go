// Package coordinator decides when a job takes checkpoints, collects what its
// tasks report and has each complete checkpoint committed. How a barrier
// travels, how state becomes objects and how a commit is made durable are left
// to others, behind Tasks and Committer.
//
// # The protocol
//
// A checkpoint goes through these steps, each a plain value that can cross a
// process boundary:
//
//  1. It is triggered: it takes the next id and a Trigger goes to the sources,
//     which put a barrier into their output. The trigger names the base, the
//     newest committed checkpoint, because only the coordinator knows which one
//     that is (rule R6).
//  2. Each task that saw the barrier on all its inputs captures its state,
//     uploads it in the background and sends a Report, or a Decline. A task
//     reports in id order.
//  3. When every task has reported, the manifest is handed to the Committer.
//     One commit runs at a time, and of several complete checkpoints the lowest
//     id goes first. From here on the checkpoint cannot be aborted: its commit
//     may have happened even if nobody heard of it.
//  4. Committed, it is completed: the tasks are told, and checkpoints with
//     lower ids which still wait for reports are aborted as subsumed, since
//     nobody needs them any more. Savepoints are never subsumed, subsume
//     nothing, and are nobody's base.
//
// A checkpoint that is declined, expires or cannot be committed is aborted and
// the tasks are told so. All signals to tasks may be lost or doubled, and
// reports may come late or twice: what does not fit a pending checkpoint is
// ignored, and its objects are left to retention.
//
// A Final checkpoint (the input is exhausted) or a Stop checkpoint (the job was
// asked to stop) is the last one: from its request on nothing else is
// triggered, it is tried again when it fails, and its commit ends the run.
//
// # Why at least as many checkpoints are kept as may be pending
//
// A pending checkpoint may name what its base names, so its base must not be
// retired before it is committed or aborted. Between a checkpoint's trigger and
// its commit only those can commit that were pending with it when it was
// triggered, and later ones only if it is a savepoint. The number of pending
// checkpoints is therefore bounded by Config.Keep, forced ones included, and
// nothing is triggered that could push the base of a pending savepoint out.
// Savepoints do not count among the checkpoints that retention keeps.
//
// # Two layers
//
// Machine is the protocol as a plain struct: events and the present time in,
// effects out, with no goroutine, clock or I/O, so that a simulation or a text
// file can drive it. Coordinator is the loop that drives it with the real ones.
package coordinator
