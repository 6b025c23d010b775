// Package golden holds whole jobs as released versions stored them, and the
// test that each of them can be gone on from for ever: HEAD, manifests, deltas
// and bases, source positions and the layout of keyed state at once. The
// formats by themselves have golden files beside their codecs.
package golden
