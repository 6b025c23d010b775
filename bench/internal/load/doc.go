// Package load is the state that the benchmarks work on: keys and values that
// follow from a number, tasks that hold them, and a job that checkpoints and
// restores the tasks as the engine does, with nothing of a dataflow around it.
package load
