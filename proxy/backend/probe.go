package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gatepost/proxy/wire"
)

const (
	probeTimeout  = 30 * time.Second
	probeInterval = 5 * time.Minute // while all is well
	minProbePause = time.Second     // after a failure, doubled up to:
	maxProbePause = time.Minute
	// refreshPause is how soon a probe may follow a good one when sessions see other keywords than it did. They may be
	// meant to: Postfix can hide keywords from some clients.
	refreshPause = 30 * time.Second
	// reapInterval is how often idle connections are looked after.
	reapInterval = 15 * time.Second
)

// probeRecipient is an address that no backend is the destination of (RFC 6761, 6.4).
const probeRecipient = "probe@gatepost-probe.invalid"

// Run probes the backends (keywords after the hand-over, relay check) and looks after idle connections until ctx ends;
// then it closes those. It may run once. Sessions may go on after it.
func (g *Group) Run(ctx context.Context) {
	var wg, first sync.WaitGroup
	for _, s := range g.servers {
		first.Add(1)
		wg.Go(func() { s.keepProbing(ctx, first.Done) })
	}
	wg.Go(func() { g.reap(ctx) })
	first.Wait()
	close(g.probed)
	wg.Wait()
	for _, s := range g.servers {
		s.pool.close()
	}
}

func (g *Group) reap(ctx context.Context) {
	tick := time.NewTicker(reapInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, s := range g.servers {
			s.pool.expire(s.clock.Now())
		}
	}
}

// keepProbing calls probed after the first probe.
func (s *server) keepProbing(ctx context.Context, probed func()) {
	pause := minProbePause
	for ctx.Err() == nil {
		err := s.probe(ctx)
		if probed != nil {
			probed()
			probed = nil
		}
		wait, soonest := jitter(probeInterval), refreshPause
		if err != nil {
			if ctx.Err() == nil {
				s.counters.probeFailed.Add(1)
			}
			wait, soonest = jitter(pause), jitter(pause)
			pause = min(2*pause, maxProbePause)
		} else {
			pause = minProbePause
		}
		s.await(ctx, wait, soonest)
	}
	if probed != nil {
		probed()
	}
}

// await waits for the given time; a nudge shortens it to soonest.
func (s *server) await(ctx context.Context, wait, soonest time.Duration) {
	started := time.Now()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	wake := s.wake
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-wake:
			wake = nil
			timer.Reset(max(soonest, minProbePause) - time.Since(started))
		}
	}
}

// probe opens a session in a stranger's name and asks to relay.
func (s *server) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c := &Conn{server: s, client: s.stranger(), probing: true}
	if err := c.openNew(ctx); err != nil {
		s.unproved(err)
		return err
	}
	defer c.Release()
	if !s.config.RelayCheck || !s.handsOver() {
		return nil
	}
	accepted, _, err := c.asksToRelay(ctx, "<>", "<"+probeRecipient+">")
	switch {
	case accepted:
		s.provedOpen(err)
	case err != nil:
		if s.unproved(err) && ctx.Err() == nil {
			s.log.Warn("relay check came to nothing", "error", err.Error())
		}
	default:
		s.provedSafe()
	}
	return err
}

// provedSafe, provedOpen and unproved keep the outcome of the relay check; what is new is logged.
func (s *server) provedSafe() {
	if v := s.relay.Swap(&verdict{}); v == nil || v.err != nil {
		s.log.Info("relay check passed: it refuses to relay for strangers")
	}
}

func (s *server) provedOpen(err error) {
	if v := s.relay.Swap(&verdict{err: err, proved: true}); v == nil || v.err == nil || !v.proved {
		s.log.Error("relay check failed", "error", err.Error())
	}
}

// unproved leaves an older proof as it is: a backend that was in order and cannot be reached now is still no open relay,
// and one that was open stays so. news tells that there is nothing else to go by, and that the reason is a new one.
func (s *server) unproved(err error) (news bool) {
	v := s.relay.Load()
	if v != nil && (v.err == nil || v.proved) {
		return false
	}
	s.relay.Store(&verdict{err: err})
	return v == nil || v.err.Error() != err.Error()
}

// stranger is a client from a network for documentation (RFC 5737, RFC 3849), which no backend has reason to trust.
// PROXY has commands for connections of the proxy's own, but Postfix answers 421 to the one of version 1.
func (s *server) stranger() Client {
	client, local := netip.MustParseAddrPort("192.0.2.1:1024"), netip.MustParseAddrPort("192.0.2.2:25")
	host, _, _ := net.SplitHostPort(s.address)
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().Is6() && s.config.ClientAddress == Transparent {
		client, local = netip.MustParseAddrPort("[2001:db8::1]:1024"), netip.MustParseAddrPort("[2001:db8::2]:25")
	}
	return Client{Addr: client, Local: local, Helo: "gatepost-probe.invalid", Extended: true}
}

// asksToRelay offers a message from the first of the senders that is taken to a foreign domain, and returns the reply that
// tells. An error means that nothing is proved, or that it was accepted.
func (c *Conn) asksToRelay(ctx context.Context, senders ...string) (accepted bool, r wire.Reply, err error) {
	for _, sender := range senders {
		r, err = c.Command(ctx, []byte("MAIL FROM:"+sender))
		switch {
		case err != nil:
			return false, r, err
		case r.Class() == 2:
			return c.asksRecipient(ctx)
		case r.Code == 530: // it wants everybody to sign in (RFC 4954, 6)
			return false, r, nil
		case r.Code == 421:
			return false, r, &Error{Address: c.Address(), Step: "relay check: MAIL", Reply: r}
		}
	}
	return false, r, &Error{Address: c.Address(), Step: "relay check: MAIL", Reply: r, Err: errors.New("it takes no mail from a stranger, so nothing is known about relaying"),
		Advice: fmt.Sprintf("let %s send MAIL, or set backend.relay_check: off if you know that it is no open relay", c.client.Addr.Addr())}
}

// asksRecipient: a refusal is one whatever its reason; what counts is that the recipient was not taken.
func (c *Conn) asksRecipient(ctx context.Context) (accepted bool, r wire.Reply, err error) {
	r, err = c.Command(ctx, []byte("RCPT TO:<"+probeRecipient+">"))
	switch {
	case err != nil:
		return false, r, err
	case r.Code == 421:
		return false, r, &Error{Address: c.Address(), Step: "relay check: RCPT", Reply: r}
	case r.Class() != 2:
		return false, r, nil
	}
	return true, r, &Error{Address: c.Address(), Step: "relay check: RCPT TO:<" + probeRecipient + ">", Reply: r,
		Err: fmt.Errorf("it would relay for strangers: it took mail for a foreign domain from %s", c.client.Addr.Addr()),
		Advice: "no mail is taken; see that it does not trust every client (Postfix: mynetworks, smtpd_relay_restrictions; Exim: " +
			"relay_from_hosts), or set backend.relay_check: off if it is meant to relay"}
}
