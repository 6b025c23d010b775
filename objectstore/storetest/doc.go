// Package storetest tests object stores and what is built on them: [Run] is
// the suite that every objectstore.Store passes, [Faulty] a wrapper that
// records calls and injects faults by rule and by seed.
//
// It is for tests only; nothing a program links imports it.
package storetest
