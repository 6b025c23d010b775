// Package retention decides which checkpoints of a job are kept and proves
// which of its stored objects may be deleted. What a checkpoint is and which of
// them count is left to manifest and manifest/catalog.
//
// Deleting goes in one direction: a checkpoint is first unlinked in HEAD, then
// its manifest goes, then the objects that nothing else keeps alive. A crash
// in between leaves garbage, never a listed checkpoint with a hole.
//
// # Why no clock, lock or grace time is needed
//
// A plan reads HEAD first, then the pins, then every manifest that HEAD lists
// or an unexpired pin holds, and only then the objects. One of them may be
// deleted if no such manifest names or reserves it, and
//
//   - its id is not above that of the newest checkpoint in HEAD: every task has
//     reported that checkpoint, and a task reports in order of ids and reserves
//     all it may name later; or
//   - its epoch is below HEAD's: its owner was fenced before HEAD was read, and
//     can commit nothing any more.
//
// A manifest names the packs that it refers to like any object. A new one refers
// to those that its base, which is live, refers to, and to those that its own
// commit writes, which carry its id. So the argument below holds for them too.
//
// Whatever is left is garbage for ever: a checkpoint may name only what its
// base names or reserves, and what its own task uploads in its own epoch under
// an id above its base. So a plan does not go stale, however late it is
// applied, and two of them may be applied at once. This holds as long as the
// base of every pending checkpoint is live, which is why [Policy.Validate]
// wants at least as many checkpoints kept as may be pending.
//
// A reader of an old checkpoint puts a pin and then makes sure that HEAD still
// lists the checkpoint; a plan reads HEAD and then the pins. So either the
// plan sees the pin or the reader sees that the checkpoint is gone.
//
// A manifest, or a pack of its task parts, that cannot be read ends planning
// with an error: what it names is unknown, so nothing is known to be garbage. So does a listing that ends with
// an error.
//
// # Two ways to delete
//
// [NewPlan] and [Apply] look at everything stored: for the command line, and
// for what crashes left behind. A [Collector] belongs to the running owner: it
// knows what each live checkpoint holds, and deletes after a commit what the
// checkpoints retired by it held alone, without listing anything.
package retention
