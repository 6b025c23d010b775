// Package text holds the real text that the demo and the tests read.
package text

import _ "embed"

// Opticks is Isaac Newton's "Opticks", fourth edition, London 1730, which is in
// the public domain by its age. It is a copy of the Go distribution's
// src/testdata/Isaac.Newton-Opticks.txt, transcribed by the Online Distributed
// Proofreading Team (https://www.pgdp.net).
//
//go:embed opticks.txt
var Opticks string
