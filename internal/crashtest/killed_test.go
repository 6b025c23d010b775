//go:build unix

package crashtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/ckpt-io/ckpt/manifest"
	"github.com/ckpt-io/ckpt/manifest/catalog"
)

// TestKilledWordcountDirectory kills the real program, on a directory.
func TestKilledWordcountDirectory(t *testing.T) {
	t.Parallel()
	testKilled(t, onDirectory(t))
}

// TestIntegrationKilledWordcountS3 does the same on a real S3 server.
func TestIntegrationKilledWordcountS3(t *testing.T) { testKilled(t, onS3(t)) }

// testKilled kills wordcount at random moments of its life, starts it again,
// every other time at another parallelism, and in the end lets it finish.
func testKilled(t *testing.T, p *place) {
	kills := number(t, "CKPT_KILLS", 6)
	seed := uint64(number(t, "CKPT_SEED", rand.IntN(1_000_000)))
	t.Logf("CKPT_SEED=%d", seed)
	p.loops = 4 + int64(kills)/3 // more than can be read between the kills
	k := &killer{place: p, rng: rand.New(rand.NewPCG(seed, 0)), parallelism: 2}
	// A machine that is slow to kill takes more kills to hit often enough.
	for life := 0; k.kills < kills || k.kills < 3*kills && !k.enoughBetween(); life++ {
		if life%2 == 1 {
			k.parallelism = 1 + (k.parallelism+k.rng.IntN(3))%4
		}
		k.live()
		if life%8 == 0 {
			p.checkOutput(true)
		}
	}
	t.Logf("%d kills: %d between a trigger and its commit, %d before the job had started", k.kills, k.between, k.early)
	if !k.enoughBetween() {
		t.Errorf("%d of %d kills were between a trigger and its commit, want 40 %%", k.between, k.kills)
	}
	p.run("--interval", "200ms", "--parallelism", "3")
	p.audit()
}

func number(t *testing.T, env string, otherwise int) int {
	t.Helper()
	s := os.Getenv(env)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q: want a number", env, s)
	}
	return n
}

// killer ends the lives of one job.
type killer struct {
	*place
	rng         *rand.Rand
	parallelism int
	head        catalog.Head // after the last death

	kills, between, early int
}

func (k *killer) enoughBetween() bool { return 10*k.between >= 4*k.kills }

// live starts the program, kills it and looks at HEAD.
func (k *killer) live() {
	k.t.Helper()
	proc := k.place.start("--parallelism", fmt.Sprint(k.parallelism), "--interval", "100ms", "--rate", "4000")
	k.await(proc)
	proc.kill()
	status := proc.end()
	if !killed(status) {
		k.t.Fatalf("it was not SIGKILL that ended the process, but %v:\n%s", proc.cmd.ProcessState, proc.text())
	}
	k.kills++
	head, exists := k.place.head()
	if head.NextID < k.head.NextID || head.Epoch < k.head.Epoch {
		k.t.Fatalf("HEAD went back from next id %d, epoch %d to %d, %d", k.head.NextID, k.head.Epoch, head.NextID, head.Epoch)
	}
	id := lastTriggered(k.t, proc.text())
	switch {
	case id == 0:
		k.early++
	case !exists || head.NextID <= id:
		k.between++
	}
	k.head = head
}

// await returns at the moment to kill: mostly some time after a trigger, else
// after a commit, or at any time after the start. Should too few have hit the
// time between a trigger and its commit, it aims closer.
func (k *killer) await(proc *process) {
	var delay time.Duration
	aimCloser := 2*k.between < k.kills
	switch choice := k.rng.IntN(10); {
	case aimCloser || choice < 6:
		if !proc.waitFor(`msg="checkpoint triggered"`, 1+k.rng.IntN(3)) {
			return
		}
		delay = 20 * time.Millisecond
		if aimCloser {
			delay = 4 * time.Millisecond
		}
	case choice < 8:
		if !proc.waitFor(`msg="checkpoint completed"`, 1+k.rng.IntN(2)) {
			return
		}
		delay = 5 * time.Millisecond
	default:
		delay = 250 * time.Millisecond
	}
	time.Sleep(time.Duration(k.rng.Int64N(int64(delay))))
}

var triggeredLine = regexp.MustCompile(`msg="checkpoint triggered" id=(\d+) `)

// lastTriggered is the id of the last checkpoint that a log says was triggered,
// 0 if none.
func lastTriggered(t *testing.T, log string) manifest.ID {
	t.Helper()
	all := triggeredLine.FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return 0
	}
	id, err := strconv.ParseUint(all[len(all)-1][1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.ID(id)
}
