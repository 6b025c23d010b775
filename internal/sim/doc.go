// Package sim runs the checkpoint protocol, rules R1 to R8, over seeded
// schedules of delays, lost and doubled signals, lost answers of the store,
// aborts, slow materialization, takeovers with live zombies, late deletions and
// pinned readers, and looks for checkpoints that do not restore to exactly the
// state of their cut and for objects that nobody will ever delete.
//
// The coordinator, the catalog, retention and the tasks' ledgers are the real
// ones. Simulated are the tasks themselves, whose state is a small map instead
// of a Pebble database, and the network between them and the coordinator. Two
// seeds of three have bounds so small that tasks stand in packs beside their
// manifests. A run takes place in a testing/synctest bubble: its time is
// virtual.
package sim
