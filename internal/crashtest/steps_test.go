//go:build unix

package crashtest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestDeathAtEachStep kills a job at every step of its checkpoints: its first
// life at the first occurrence of the step, its second at the second, and so
// on until a life comes to the end.
func TestDeathAtEachStep(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, kill string }{
		{"F1 before the barrier", "at %d triggered"},
		{"F2 before an upload", "before put %d /data/"},
		{"F3 amid an upload", "middle put %d /data/"},
		{"F4 after an upload", "after put %d /data/"},
		{"F5 reports on their way", "at %d reported"},
		{"F6 before the manifest", "before put %d /manifests/"},
		{"F7 amid the manifest", "middle put %d /manifests/"},
		{"F7 after the manifest", "after put %d /manifests/"},
		{"F7 amid the swap of HEAD", "middle put %d /HEAD$"},
		{"F7 after the swap of HEAD", "after put %d /HEAD$"},
		{"F8 before the notice", "at %d before commit"},
		{"F9 some output committed", "at %d after commit"},
		{"F10 before a deletion", "before delete %d "},
		{"F11 amid a deletion", "middle delete %d "},
		{"F11 between deletions", "after delete %d "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLives(t)
			for k := 1; l.next(fmt.Sprintf(tt.kill, k)); k++ {
			}
			deaths := 2
			if strings.Contains(tt.kill, "delete") {
				deaths = 1 // what is retired goes together, so that there are few
			}
			l.checkEnd(deaths)
		})
	}
}

// TestF12_DeathDuringRestore kills a job again and again while it restores:
// with the first object, the second, and so on.
func TestF12_DeathDuringRestore(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"before", "middle", "after"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			l := newLives(t)
			l.spec.NoCopies = true
			l.mustDie("after put 6 /HEAD$")
			before := l.newest()
			for k := 1; l.next(fmt.Sprintf("%s get %d /data/", phase, k)); k++ {
				if got := l.newest(); got != before {
					t.Fatalf("newest checkpoint is %d after a death during restore, and was %d", got, before)
				}
			}
			l.checkEnd(3)
		})
	}
}

// TestF13_FiveDeathsInARow kills a job five times before it has recovered, and
// twice over.
func TestF13_FiveDeathsInARow(t *testing.T) {
	t.Parallel()
	l := newLives(t)
	l.spec.NoCopies = true
	for range 2 {
		l.mustDie("after put 4 /HEAD$")
		before := l.newest()
		for _, kill := range []string{
			"after put 1 /HEAD$", "before get 1 /data/", "middle get 2 /data/", "at 1 before recover", "at 1 after recover",
		} {
			l.mustDie(kill)
			if got := l.newest(); got != before {
				t.Fatalf("newest checkpoint is %d after a death during recovery (%s), and was %d", got, kill, before)
			}
		}
	}
	for l.next("") {
	}
	l.checkEnd(12)
}

// TestKilledAtRandomOperations kills a job at operations on its store drawn by
// lot, several lives in a row in the same one, so that the deaths of different
// steps meet what the others left.
func TestKilledAtRandomOperations(t *testing.T) {
	t.Parallel()
	seed := uint64(number(t, "CKPT_SEED", rand.IntN(1_000_000)))
	t.Logf("CKPT_SEED=%d", seed)
	kills := number(t, "CKPT_KILLS", 6)
	for i := range uint64(2) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, i))
			for deaths := 0; deaths < kills; {
				l := newLives(t)
				for l.next(randomKill(rng)) {
				}
				l.checkEnd(0)
				deaths += l.died
			}
		})
	}
}

// randomKill draws a step, mostly an early one, so that little progress is
// made between two deaths.
func randomKill(rng *rand.Rand) string {
	moments := []string{"triggered", "reported", "before commit", "after commit", "before recover", "after recover"}
	operations := []string{"put %d /data/", "put %d /manifests/", "put %d /HEAD$", "delete %d ", "get %d /data/", "get %d /manifests/", "list %d "}
	phases := []string{"before", "middle", "after"}
	nth := 1 + int(4*rng.Float64()*rng.Float64())
	n := rng.IntN(len(moments) + 2*len(operations))
	if n < len(moments) {
		return fmt.Sprintf("at %d %s", nth, moments[n])
	}
	return phases[rng.IntN(len(phases))] + " " + fmt.Sprintf(operations[n%len(operations)], nth)
}
