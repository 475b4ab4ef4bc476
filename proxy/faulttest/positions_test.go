package faulttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// environment is a number from the environment.
func environment(t testing.TB, name string, fallback int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

const (
	shortPositions = 800
	fixedSeed      = 20251122
	// stay is how many faults a house lives through before it is taken down and looked at.
	stay = 120
	// timeLimit bounds a run however slow the machine is: what was tried by then counts.
	shortTime, longTime = 4 * time.Second, 4 * time.Minute
)

// TestFaultsAtEveryByte breaks every dialogue at sampled, or with enough positions at all, bytes in all directions.
func TestFaultsAtEveryByte(t *testing.T) {
	positions := environment(t, "GATEPOST_FAULT_POSITIONS", shortPositions)
	seed := environment(t, "GATEPOST_FAULT_SEED", fixedSeed)
	limit := time.Now().Add(shortTime)
	if positions > shortPositions {
		limit = time.Now().Add(longTime)
	}
	s := newSite(t, &jumpingClock{})
	before, begun := s.usage(), time.Now()
	all := dialogues()
	var mu sync.Mutex // guards tally
	var tally tally
	var running sync.WaitGroup
	places := make(chan struct{}, 8*runtime.GOMAXPROCS(0)) // most of a fault's time is waiting
	for i := range all {
		share := int(positions) / len(all)
		running.Go(func() {
			x := &experiment{t: t, site: s, dialogue: &all[i], seed: uint64(seed), limit: limit}
			done := x.run(share, places)
			mu.Lock()
			defer mu.Unlock()
			tally.add(done)
		})
	}
	running.Wait()
	fmt.Printf("faults: seed %d, %d positions in %d dialogues, %d struck: %s; %s\n", seed, tally.tried, len(all), tally.struck, tally.kinds(), time.Since(begun).Round(time.Second/10))
	if tally.struck < tally.tried/2 || tally.tried == 0 {
		t.Errorf("of %d faults only %d struck", tally.tried, tally.struck)
	}
	if err := s.restored(before); err != nil {
		t.Error(err)
	}
}

// tally counts faults.
type tally struct {
	tried, struck, accepted int
	byKind                  [kinds]int
}

func (t *tally) add(other tally) {
	t.tried += other.tried
	t.struck += other.struck
	t.accepted += other.accepted
	for k, n := range other.byKind {
		t.byKind[k] += n
	}
}

func (t *tally) kinds() (text string) {
	for k, n := range t.byKind {
		text += fmt.Sprintf("%s %d, ", kind(k), n)
	}
	return text + fmt.Sprintf("messages accepted all the same %d", t.accepted)
}

// experiment breaks one dialogue.
type experiment struct {
	t        testing.TB
	site     *site
	dialogue *dialogue
	seed     uint64
	limit    time.Time
}

// run learns the dialogue's bytes and breaks it at count places, some of them at the same time.
func (x *experiment) run(count int, places chan struct{}) (done tally) {
	d := x.dialogue
	d.setup.relayed = true
	faults := x.choose(x.learn(), count)
	var mu sync.Mutex // guards done
	var running sync.WaitGroup
	for batch := range slices.Chunk(faults, min(stay, (count+1)/2)) {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			part := x.suffer(batch)
			mu.Lock()
			defer mu.Unlock()
			done.add(part)
		})
	}
	running.Wait()
	return done
}

// learn plays the dialogue unbroken and counts the bytes. The second time, because then connections are reused.
func (x *experiment) learn() (counts [directions]int64) {
	d := x.dialogue
	h := x.site.open(x.t, d.setup)
	for n := range 2 {
		h.plan.arm()
		c := h.connect(fmt.Sprintf("learn%d", n))
		d.play(c)
		c.end()
		if c.err != nil {
			x.t.Errorf("%s, unbroken: %v", d.name, c.err)
		}
		if err := h.waitIdle(); err != nil {
			x.t.Errorf("%s: %v", d.name, err)
		}
		counts, _ = h.plan.state()
		for i, final := range d.finals {
			for sender, s := range h.ledger.sendings {
				if got := fmt.Sprintf("-learn%d-%d@example.org", n, i+1); len(sender) > len(got) && sender[len(sender)-len(got):] == got && s.final != final {
					x.t.Errorf("%s, unbroken: message %d: %s, want %d", d.name, i, s.summary(), final)
				}
			}
		}
	}
	h.stop()
	x.report(h)
	return counts
}

// choose draws faults: every byte of every direction once, in random order, before any comes again with another kind.
// Some come with a second one somewhere else.
func (x *experiment) choose(counts [directions]int64, count int) [][]fault {
	r := rand.New(rand.NewPCG(x.seed, hash(x.dialogue.name)))
	var all []fault
	for d := range directions {
		step := max(1, counts[d]/4000) // of large messages a part must do
		for at := int64(0); at <= counts[d]; at += step {
			all = append(all, fault{direction: d, at: min(at+r.Int64N(step), counts[d])})
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	chosen := make([][]fault, count)
	for i := range chosen {
		chosen[i] = []fault{x.complete(r, all[i%len(all)])}
		if r.IntN(5) == 0 {
			chosen[i] = append(chosen[i], x.complete(r, all[r.IntN(len(all))]))
		}
	}
	return chosen
}

func (x *experiment) complete(r *rand.Rand, f fault) fault {
	f.kind = kind(r.IntN(int(kinds)))
	if f.kind == endless && r.IntN(16) > 0 { // these take seconds
		f.kind = reset
	}
	f.times = 1 + r.IntN(max(1, x.dialogue.times))
	return f
}

func hash(name string) (h uint64) {
	for _, c := range []byte(name) {
		h = h*31 + uint64(c)
	}
	return h
}

// suffer plays the dialogue in a house once for each fault.
func (x *experiment) suffer(faults [][]fault) (done tally) {
	h := x.site.open(x.t, x.dialogue.setup)
	for i, f := range faults {
		if time.Now().After(x.limit) || x.t.Failed() {
			break
		}
		struck, accepted, err := x.strike(h, f, fmt.Sprintf("f%d", i))
		if err != nil {
			x.t.Errorf("%s, %s: %v", x.dialogue.name, f, err)
			break
		}
		done.tried++
		done.accepted += accepted
		if struck {
			done.struck++
			done.byKind[f[0].kind]++
		}
	}
	h.stop()
	x.report(h)
	return done
}

func (x *experiment) report(h *house) {
	for _, err := range h.ledger.audit() {
		x.t.Errorf("%s: %v", x.dialogue.name, err)
	}
}

// strike plays the dialogue with its faults, and then checks that the next client finds everything in order.
func (x *experiment) strike(h *house, faults []fault, name string) (struck bool, accepted int, err error) {
	h.plan.arm(faults...)
	c := h.connect(name)
	x.dialogue.play(c)
	c.end()
	if c.breach != nil {
		return false, 0, c.breach
	}
	if err := h.waitIdle(); err != nil {
		return false, 0, err
	}
	_, n := h.plan.state()
	h.plan.arm()
	for _, s := range h.ledger.of(name) {
		if err := h.ledger.acknowledged(s); err != nil {
			return false, 0, err
		}
		if s.final == 250 {
			accepted++
		}
	}
	return n > 0, accepted, h.serves(name + "next")
}

// of returns the sendings of a client.
func (l *ledger) of(name string) (list []*sending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, kind := range []string{"a", "grey", "refused", "tagged"} {
		for n := 1; n <= 4; n++ {
			if s := l.sendings[fmt.Sprintf("%s-%s-%d@example.org", kind, name, n)]; s != nil {
				list = append(list, s)
			}
		}
	}
	return list
}

// serves tells whether a client gets its message through, soon. A first try may meet what the fault has left behind (a
// backend that is passed over for a second); it must be told so in order.
func (h *house) serves(name string) error {
	var last error
	for n, limit := 0, time.Now().Add(6*time.Second); time.Now().Before(limit); n++ {
		c := h.connect(fmt.Sprintf("%s%d", name, n))
		c.hello()
		s := c.letter("a", "next", text, "c@example.com")
		c.envelope(s)
		if s.rcpts[0] == 250 {
			c.data(s)
		}
		c.quit()
		c.end()
		if err := errors.Join(c.breach, h.ledger.acknowledged(s)); err != nil {
			return err
		}
		if s.final == 250 {
			return h.waitIdle()
		}
		last = fmt.Errorf("the next client is not served: %s, %q, %v", s.summary(), c.last, c.err)
		time.Sleep(20 * time.Millisecond)
	}
	return last
}

// resources are what a process must not gather.
type resources struct{ goroutines, files int }

// usage does not count the sockets that the resolver keeps for its next questions: those are bounded, and closed with it.
func (s *site) usage() resources {
	return resources{goroutines: runtime.NumGoroutine(), files: openFiles() - s.resolver.Spare()}
}

func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// restored waits until no more is in use than before.
func (s *site) restored(before resources) error {
	for limit := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		now := s.usage()
		if now.goroutines <= before.goroutines && now.files <= before.files {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("left behind: %+v, before: %+v", now, before)
		}
	}
}
