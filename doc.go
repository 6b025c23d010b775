// Package ckpt is exactly-once keyed state for Go stream processors,
// checkpointed incrementally to an object store, with nothing but the bucket
// as a dependency. The root holds documentation only; start at
//
//   - [github.com/ckpt-io/ckpt/engine] to run a dataflow job,
//   - [github.com/ckpt-io/ckpt/coordinator] and
//     [github.com/ckpt-io/ckpt/incremental] to give a processor of your own
//     checkpoints,
//   - cmd/ckpt to look into, verify, restore and clean up what is stored.
//
// ARCHITECTURE.md follows one record from its source to the deletion of the
// last checkpoint that holds it.
package ckpt
