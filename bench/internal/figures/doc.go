// Package figures says what the benchmarks measure, which bars must hold, and
// how a figure follows from its raw samples. Measuring is left to package
// bench, drawing and writing to the report.
package figures
