// Package crashtest kills whole jobs, at random moments and at each step of a
// checkpoint, and looks at what is left: output that is exactly once, no object
// that is missing, none too many, every checkpoint restorable. It has nothing
// but tests. What a crash does to one part alone is left to that part's tests.
//
// The environment variable CKPT_KILLS says how often the program is killed at
// random, CKPT_SEED repeats the moments of an earlier run.
package crashtest
