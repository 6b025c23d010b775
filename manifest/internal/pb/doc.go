// Package pb is the Go form of manifest.proto, made by tools/protogen. Only
// package manifest uses it; everybody else sees manifest.Manifest.
package pb
