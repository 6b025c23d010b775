// Package bench measures whole checkpoints and recoveries, and what peers take
// for the same in the same run. Benchmarks of one package stand beside its
// tests.
//
//	go test -run '^$' -bench . -timeout 30m ./bench/...   # all, under 20 minutes on two cores
//	make bench-report                                     # the same, with bench/results
//	make bench-full                                       # MinIO, 5 GB, the whole matrix
//
// CKPT_BENCH_MB and CKPT_BENCH_TASKS make everything smaller or larger,
// CKPT_BENCH_OUT names the directory for raw samples and profiles. Peers whose
// programs are missing are skipped with a word; `make bench-tools` builds all
// but restic, which Debian has.
//
// The figures are ratios of two measurements that follow each other in one
// process on one machine, so that they hold on others too.
package bench
