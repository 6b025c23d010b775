// Package bench holds the benchmarks of whole jobs. Those of one package stand
// beside its tests.
package bench
