// Package peer does what ckpt is compared with: raw requests of an S3 client,
// Pebble's own checkpoints, rclone and restic. It has none of ckpt's code on
// its paths; when something is measured is left to package bench.
package peer
