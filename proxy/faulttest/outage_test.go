package faulttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/backend/backendtest"
)

// TestOutages takes backends, resolver, store and disk away at random moments under a handful of clients, and reloads.
func TestOutages(t *testing.T) {
	seed := environment(t, "GATEPOST_FAULT_SEED", fixedSeed)
	long := environment(t, "GATEPOST_FAULT_POSITIONS", shortPositions) > shortPositions
	lasts := 1500 * time.Millisecond
	if long {
		lasts = 30 * time.Second
	}
	s := newSite(t, &jumpingClock{})
	before := s.usage()
	clock := &jumpingClock{}
	h := s.open(t, setup{relayed: true, clock: clock, extra: "duplicates: suppress",
		backends: []backendtest.Behaviour{picky(), picky(withoutChunking...)}})
	var over atomic.Bool
	var running sync.WaitGroup
	var sent, accepted atomic.Int64
	for n := range 6 {
		running.Go(func() {
			for i := 0; !over.Load(); i++ {
				c := h.connect(fmt.Sprintf("outage%d.%d", n, i))
				kinds := []string{"a", "grey", "tagged"}
				c.hello()
				body := text
				if i%7 == 0 {
					body = large
				}
				l := c.letter(kinds[i%len(kinds)], "outage", body, known, unknown)
				c.envelope(l)
				c.data(l)
				c.quit()
				c.end()
				sent.Add(1)
				if l.final == 250 {
					accepted.Add(1)
				}
				if err := errors.Join(c.breach, h.ledger.acknowledged(l)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reloads := 0
	vandal := rand.New(rand.NewPCG(uint64(seed), 1))
	for limit := time.Now().Add(lasts); time.Now().Before(limit); {
		time.Sleep(time.Duration(vandal.IntN(40)) * time.Millisecond)
		on := vandal.IntN(2) == 0
		switch vandal.IntN(9) {
		case 0:
			h.relays[1].kill(on)
		case 1:
			h.relays[2].kill(on)
		case 2:
			s.dns.silent.Store(on)
		case 3:
			s.store.fails.Store(on)
		case 4:
			s.store.hangs.Store(on)
		case 5:
			clock.jump(time.Duration(vandal.IntN(200)-100) * time.Hour)
		case 6:
			s.dns.broken.Store(on)
		case 7:
			h.spill.full.Store(on)
		case 8:
			h.reload()
			reloads++
		}
	}
	h.relays[1].kill(false)
	h.relays[2].kill(false)
	s.dns.silent.Store(false)
	s.dns.broken.Store(false)
	s.store.fails.Store(false)
	s.store.hangs.Store(false)
	h.spill.full.Store(false)
	over.Store(true)
	running.Wait()
	if err := h.serves("after"); err != nil {
		t.Error(err)
	}
	h.stop()
	for _, err := range h.ledger.audit() {
		t.Error(err)
	}
	fmt.Printf("outages: seed %d, %d sessions, %d messages accepted, %d reloads\n", seed, sent.Load(), accepted.Load(), reloads)
	if accepted.Load() == 0 || reloads == 0 {
		t.Error("no message was accepted at all, or nothing reloaded")
	}
	if err := s.restored(before); err != nil {
		t.Error(err)
	}
}

// send sends one message in a session of its own. The reply is that to RCPT where that is a refusal.
func (h *house) send(t testing.TB, name, kind, body string) (code int, reply string) {
	t.Helper()
	c := h.connect(name)
	c.hello()
	s := c.letter(kind, "x", body, known)
	c.envelope(s)
	code, reply = s.rcpts[0], c.last
	if s.accepted() {
		c.data(s)
		code, reply = s.final, c.last
	}
	c.quit()
	c.end()
	if c.err != nil {
		t.Errorf("%s: %v", name, c.err)
	}
	if err := h.ledger.acknowledged(s); err != nil {
		t.Error(err)
	}
	return code, reply
}

func (h *house) wantSend(t testing.TB, name, kind, body, want string) {
	t.Helper()
	if _, reply := h.send(t, name, kind, body); !strings.HasPrefix(reply, want) {
		t.Errorf("%s: got %q, want %q", name, reply, want)
	}
}

// done takes the house down.
func (h *house) done(t testing.TB) {
	t.Helper()
	h.stop()
	for _, err := range h.ledger.audit() {
		t.Error(err)
	}
}

// TestDirections: what is out of order makes mail pass or wait as documented, and is as before when it is over.
func TestDirections(t *testing.T) {
	t.Parallel()
	const deferring = `
  - {name: forged, when: spf.result == "fail" or spf.result == "temperror", then: defer, reply: 451 4.4.3 DNS trouble}
  - {name: unknown, when: not rdns.confirmed, then: reject, on_error: defer}
  - {name: grey, when: mail.local startsWith "grey", then: greylist}
`
	t.Run("resolver", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, filters.SystemClock{})
		log := &telemetryLog{}
		passing, waiting := s.open(t, setup{logTo: log}), s.open(t, setup{rules: deferring})
		s.dns.silent.Store(true)
		passing.wantSend(t, "silent", "a", text, "250 ")
		log.wants(t, "rdns: ", "no server answered in time")
		s.log.wants(t, "a DNS server does not answer")
		if s.resolver.Metrics.Timeouts.Load() == 0 {
			t.Error("no time-out was counted")
		}
		waiting.wantSend(t, "silent", "a", text, "451 4.4.3")
		s.dns.silent.Store(false)
		passing.wantSend(t, "again", "a", text, "250 ")
		// A failure is remembered for a moment.
		for limit := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if code, reply := waiting.send(t, fmt.Sprint("again", time.Now().UnixNano()), "a", text); code == 250 {
				break
			} else if time.Now().After(limit) {
				t.Errorf("the resolver is back, and the reply still %q", reply)
				break
			}
		}
		s.log.wants(t, "a DNS server answers again")
		passing.done(t)
		waiting.done(t)
	})
	t.Run("store", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, filters.SystemClock{})
		log := &telemetryLog{}
		h := s.open(t, setup{logTo: log})
		h.wantSend(t, "before", "grey", text, "451 4.7.1")
		s.store.fails.Store(true)
		h.wantSend(t, "failing", "grey", text, "250 ")
		log.wants(t, errFickle.Error())
		s.store.fails.Store(false)
		s.store.hangs.Store(true)
		h.wantSend(t, "hanging", "grey", text, "250 ")
		h.wantSend(t, "hanging", "a", text, "250 ")
		s.store.hangs.Store(false)
		h.wantSend(t, "after", "grey", text, "451 4.7.1")
		h.done(t)
	})
	t.Run("disk", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, filters.SystemClock{})
		log := &telemetryLog{}
		h := s.open(t, setup{logTo: log})
		h.spill.full.Store(true)
		h.wantSend(t, "full", "a", large, "452 4.3.1")
		h.wantSend(t, "small", "a", text, "250 ")
		log.wants(t, "no room for a message", filters.ErrSpillFull.Error())
		if n := h.server.Metrics().SpillFull.Load(); n != 1 {
			t.Errorf("SpillFull is %d", n)
		}
		h.spill.full.Store(false)
		h.wantSend(t, "after", "a", large, "250 ")
		h.spill.noWrites.Store(true)
		h.wantSend(t, "nowrites", "a", large, "452 4.3.1")
		h.spill.noWrites.Store(false)
		log.wants(t, syscall.ENOSPC.Error())
		if n := h.server.Metrics().SpillErrors.Load(); n != 1 {
			t.Errorf("SpillErrors is %d", n)
		}
		h.wantSend(t, "again", "a", large, "250 ")
		h.done(t)
	})
	t.Run("disk that cannot be read", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, filters.SystemClock{})
		for _, keywords := range [][]string{nil, withoutChunking} {
			log := &telemetryLog{}
			h := s.open(t, setup{logTo: log, backends: []backendtest.Behaviour{{Keywords: keywords}}})
			h.spill.noReads.Store(true)
			h.wantSend(t, "noreads", "a", large, "451 4.3.0")
			log.wants(t, "a message cannot be read back")
			if m := h.server.Metrics(); m.SpillErrors.Load() != 1 || m.Replays.Load() != 0 {
				t.Errorf("SpillErrors is %d, Replays %d", m.SpillErrors.Load(), m.Replays.Load())
			}
			h.wantSend(t, "small", "a", text, "250 ")
			h.spill.noReads.Store(false)
			h.wantSend(t, "after", "a", large, "250 ")
			h.done(t)
		}
	})
	t.Run("backend", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, filters.SystemClock{})
		log := &telemetryLog{}
		h := s.open(t, setup{relayed: true, logTo: log})
		h.relays[1].kill(true)
		c := h.connect("dead")
		c.hello()
		l := c.letter("a", "x", text, known)
		c.send("MAIL FROM:<" + l.sender + ">\r\n")
		if l.mail = c.reply("MAIL"); l.mail != 451 || !strings.HasPrefix(c.last, "451 4.4.1") {
			t.Errorf("no backend: %q", c.last)
		}
		log.wants(t, "no backend can be had")
		if n := h.server.Metrics().DialErrors.Load(); n != 1 {
			t.Errorf("DialErrors is %d", n)
		}
		h.relays[1].kill(false)
		c.rset()
		l = c.letter("a", "x", text, known)
		c.envelope(l)
		c.data(l)
		c.quit()
		c.end()
		if l.final != 250 {
			t.Errorf("the backend is back: %s, %q, %v", l.summary(), c.last, c.err)
		}
		h.done(t)
	})
	t.Run("backend never seen", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, filters.SystemClock{})
		h := s.open(t, setup{relayed: true, tolerant: true, backends: []backendtest.Behaviour{{Greeting: "421 4.3.0 starting" + backendtest.Hangup}}})
		<-h.group.Probed()
		c := h.connect("early")
		if code := c.reply("greeting"); code != 421 {
			t.Errorf("greeting %d %q", code, c.last)
		}
		c.end()
		h.done(t)
	})
	t.Run("clock", func(t *testing.T) {
		t.Parallel()
		clock := &jumpingClock{}
		s := newSite(t, clock)
		log := &telemetryLog{}
		h := s.open(t, setup{clock: clock, logTo: log})
		c := h.connect("jump")
		c.hello()
		for i, offset := range []time.Duration{0, 87_600 * time.Hour, -87_600 * time.Hour, time.Hour, 0} {
			clock.jump(offset)
			l := c.letter("a", "jump", text, known)
			c.envelope(l)
			c.data(l)
			if l.final != 250 {
				t.Errorf("jump %d: %s %q", i, l.summary(), c.last)
			}
			h.wantSend(t, fmt.Sprint("jump", i), "grey", text, "451 4.7.1")
		}
		log.wants(t, "the clock was set", "by=87600h0m0s", "by=-175200h0m0s", "by=-1h0m0s")
		if n := h.server.Metrics().ClockSteps.Load(); n != 4 {
			t.Errorf("ClockSteps is %d", n)
		}
		c.quit()
		c.end()
		h.done(t)
	})
}

// TestClockSetBackInAnOutage: what was put off until a time that is now far away is looked at again all the same.
func TestClockSetBackInAnOutage(t *testing.T) {
	t.Parallel()
	clock := &jumpingClock{}
	s := newSite(t, clock)
	h := s.open(t, setup{relayed: true, clock: clock})
	clock.jump(1000 * time.Hour)
	h.wantSend(t, "before", "a", text, "250 ")
	h.relays[1].kill(true)
	s.dns.silent.Store(true)
	c := h.connect("dead")
	c.hello()
	l := c.letter("a", "x", text, known)
	c.send("MAIL FROM:<" + l.sender + ">\r\n")
	if l.mail = c.reply("MAIL"); l.mail != 451 {
		t.Errorf("no backend: %q", c.last)
	}
	c.quit()
	c.end()
	clock.jump(0)
	h.relays[1].kill(false)
	s.dns.silent.Store(false)
	if err := h.serves("back"); err != nil {
		t.Error(err)
	}
	h.wantSend(t, "after", "grey", text, "451 4.7.1")
	h.done(t)
}

// starved is a listener that runs out of descriptors now and then.
type starved struct {
	net.Listener
	left atomic.Int64
}

func (l *starved) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestNoDescriptorsToAccept: the listener goes on when there are descriptors again, and does not spin meanwhile.
func TestNoDescriptorsToAccept(t *testing.T) {
	t.Parallel()
	s := newSite(t, filters.SystemClock{})
	l := &starved{}
	log := &telemetryLog{}
	h := s.open(t, setup{logTo: log, wrap: func(inner net.Listener) net.Listener { l.Listener = inner; return l }})
	h.wantSend(t, "before", "a", text, "250 ")
	l.left.Store(5)
	// The accept that is under way still works.
	h.wantSend(t, "underway", "a", text, "250 ")
	begun := time.Now()
	h.wantSend(t, "after", "a", text, "250 ")
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("served after %s only", took)
	}
	if n := h.server.Metrics().AcceptErrors.Load(); n != 5 {
		t.Errorf("AcceptErrors is %d, want 5", n)
	}
	log.wants(t, "cannot accept connections", syscall.EMFILE.Error())
	h.done(t)
}

// TestShutdownUnderLoad: whenever the proxy is stopped, what was accepted is stored, and nothing is left.
func TestShutdownUnderLoad(t *testing.T) {
	seed := environment(t, "GATEPOST_FAULT_SEED", fixedSeed)
	r := rand.New(rand.NewPCG(uint64(seed), 3))
	rounds := 15
	if environment(t, "GATEPOST_FAULT_POSITIONS", shortPositions) > shortPositions {
		rounds = 500
	}
	s := newSite(t, filters.SystemClock{})
	before := s.usage()
	all := dialogues()
	for round := range rounds {
		d := all[r.IntN(len(all))]
		d.setup.relayed, d.setup.dirty = true, true
		h := s.open(t, d.setup)
		var over atomic.Bool
		var running sync.WaitGroup
		for n := range 4 {
			running.Go(func() {
				for i := 0; !over.Load(); i++ {
					name := fmt.Sprintf("stop%d.%d", n, i)
					c := h.connect(name)
					d.play(c)
					c.end()
					if c.breach != nil {
						t.Errorf("%s, round %d: %v", d.name, round, c.breach)
					}
					for _, l := range h.ledger.of(name) {
						if err := h.ledger.acknowledged(l); err != nil {
							t.Errorf("%s, round %d: %v", d.name, round, err)
						}
					}
				}
			})
		}
		time.Sleep(time.Duration(r.IntN(20_000)) * time.Microsecond)
		over.Store(true)
		h.stop()
		running.Wait()
		for _, err := range h.ledger.audit() {
			t.Errorf("%s, round %d: %v", d.name, round, err)
		}
	}
	if err := s.restored(before); err != nil {
		t.Error(err)
	}
}

// TestSilentResolverUnderLoad: sessions that wait for the DNS are bounded in memory and in time. They all wait at once: in
// turn it would take them minutes more than where the DNS answers.
func TestSilentResolverUnderLoad(t *testing.T) {
	h := flooded(t, setup{})
	h.site.dns.silent.Store(true)
	m := watch()
	silent := h.sendMany(t, "silent", 300)
	m.atMost(t, "300 clients without DNS", 48<<20)
	if h.site.resolver.Metrics.Timeouts.Load() == 0 {
		t.Error("nobody has waited for the DNS")
	}
	h.site.dns.silent.Store(false)
	if answered := h.sendMany(t, "answered", 300); silent > 10*time.Second+4*answered {
		t.Errorf("300 clients took %s without DNS, and %s with it", silent, answered)
	}
	h.done(t)
}

// sendMany tells how long so many clients take, at the same time.
func (h *house) sendMany(t testing.TB, name string, count int) time.Duration {
	t.Helper()
	var running sync.WaitGroup
	begun := time.Now()
	for n := range count {
		running.Go(func() {
			if code, reply := h.send(t, fmt.Sprint(name, n), "a", text); code != 250 {
				t.Errorf("client %d: %q", n, reply)
			}
		})
	}
	running.Wait()
	return time.Since(begun)
}
