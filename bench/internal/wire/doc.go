// Package wire stands between a client and its object store: it counts
// requests by kind and bytes on the server's side of the wire, and can make
// the wire slow. What is sent over it is left to the benchmarks.
package wire
