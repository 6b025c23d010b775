package sim

import (
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

// seeds is how many seeds to play: CKPT_SIM_SEEDS, or enough for a quick look.
func seeds(t *testing.T) int {
	s := os.Getenv("CKPT_SIM_SEEDS")
	if s == "" {
		return 300
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("CKPT_SIM_SEEDS=%q: want a number of seeds", s)
	}
	return n
}

func optionsOf(seed int) Options {
	pending := 1 + seed%3
	return Options{Seed: uint64(seed), MaxPending: pending, Keep: pending + seed/3%2}
}

// TestProtocol plays seeds with all rules in force.
func TestProtocol(t *testing.T) {
	const lanes = 4
	n := seeds(t)
	totals := make([]Stats, lanes)
	t.Run("lanes", func(t *testing.T) {
		for lane := range lanes {
			t.Run(strconv.Itoa(lane), func(t *testing.T) {
				t.Parallel()
				for seed := 1 + lane; seed <= n; seed += lanes {
					play(t, optionsOf(seed), &totals[lane])
				}
			})
		}
	})
	var sum Stats
	for _, s := range totals {
		sum.add(s)
	}
	t.Logf("%d seeds: %+v", n, sum)
	for what, count := range map[string]int{
		"commits": sum.Committed, "aborts": sum.Aborted, "takeovers": sum.Takeovers, "bases": sum.Bases,
		"pinned reads": sum.PinnedReads, "late plans": sum.LatePlans, "deletions": sum.Deleted,
		"packs": sum.Packs, "shared packs": sum.Shared,
	} {
		if count < n/10 {
			t.Errorf("only %d %s over %d seeds: the schedules do not show anything", count, what, n)
		}
	}
}

func play(t *testing.T, opts Options, sum *Stats) {
	var err error
	synctest.Test(t, func(t *testing.T) {
		var s Stats
		s, err = Run(opts)
		sum.add(s)
	})
	if err != nil {
		t.Errorf("seed %d (%d pending, %d kept):\n%v", opts.Seed, opts.MaxPending, opts.Keep, err)
	}
}

// TestControls takes one rule out at a time. If no seed fails then, the
// simulation would not see the rule broken either.
func TestControls(t *testing.T) {
	for _, c := range []struct {
		name  string
		broke Broken
		opts  Options
		want  string // in the error: the rule's own violation, not another one
	}{
		{"keep fewer than pending", KeepFewer, Options{MaxPending: 3, Keep: 1}, "listed checkpoint"},
		{"base ahead of its checkpoint", FutureBase, Options{MaxPending: 2, Keep: 2}, "differ from"},
		{"packs forgotten", ForgetPacks, Options{MaxPending: 2, Keep: 2}, "listed checkpoint"},
		{"no reservations", NoReservations, Options{MaxPending: 3, Keep: 3}, "listed checkpoint"},
		{"uploads are forgotten", ForgetUploads, Options{MaxPending: 1, Keep: 1}, "listed checkpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const limit = 2000
			failed := 0
			seed := 1
			for ; seed <= limit && failed == 0; seed++ {
				var err error
				synctest.Test(t, func(t *testing.T) {
					opts := c.opts
					opts.Seed, opts.Break = uint64(seed), c.broke
					_, err = Run(opts)
				})
				if err != nil && strings.Contains(err.Error(), c.want) {
					failed++
					t.Logf("seed %d: %v", seed, err)
				}
			}
			if failed == 0 {
				t.Errorf("none of %d seeds failed without the rule: %s", limit, c.broke)
			}
		})
	}
}

func (s *Stats) add(o Stats) {
	s.Committed += o.Committed
	s.Aborted += o.Aborted
	s.Takeovers += o.Takeovers
	s.Bases += o.Bases
	s.PinnedReads += o.PinnedReads
	s.LatePlans += o.LatePlans
	s.Deleted += o.Deleted
	s.Packs += o.Packs
	s.Shared += o.Shared
}

func TestMain(m *testing.M) {
	// Short-lived worlds make garbage; collecting it half as often saves half
	// the time.
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
