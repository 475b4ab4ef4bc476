package backend

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"gatepost/proxy/wire"
)

// Examination is what one look at a backend has shown, for who wants to know whether it is set up well.
type Examination struct {
	// Address is the backend's, as configured.
	Address string
	// Took is the time until a session was open: connect, greeting, hand-over, EHLO.
	Took time.Duration
	// Banner is the text of its greeting, Hello the first line of its answer to the last EHLO; empty if it got not so far.
	Banner, Hello string
	// Extensions is what it offers to a stranger.
	Extensions Extensions
	// Err is why no session could be had in the name of a stranger; an *[Error].
	Err error
	// Stranger is the address that was handed over, in a network for documentation.
	Stranger netip.Addr
	// Relay is what it said when it was asked to relay, once for each sender.
	Relay []RelayTrial
	// Own is the same, handed over as a client on the backend's own machine, which most servers let relay: where it was
	// accepted and a stranger was not, the address has arrived. Its Sender is empty if that was not tried.
	Own RelayTrial
}

// RelayTrial is a message for a foreign domain that was offered; none was ever sent.
type RelayTrial struct {
	Sender   string // "<>", or an address in brackets
	Accepted bool
	Reply    wire.Reply // that tells; Code is 0 if there was none
	Err      error      // nothing is proved; nil if Accepted
}

// opening is what a backend says while a session is opened. A nil one takes no notes.
type opening struct{ banner, hello string }

func (o *opening) greeted(r wire.Reply)    { o.keep(r, false) }
func (o *opening) introduced(r wire.Reply) { o.keep(r, true) }

func (o *opening) keep(r wire.Reply, hello bool) {
	switch {
	case o == nil || len(r.Lines) == 0:
	case hello:
		o.hello = r.Lines[0]
	default:
		o.banner = r.Lines[0]
	}
}

// Examine looks at every backend of a valid configuration at the same time, whatever relay_check says. senders are in
// brackets, to be tried one by one beside the null sender: servers have been seen that relay for whoever claims to be
// local. It ends with ctx.
func Examine(ctx context.Context, c Config, o Options, senders ...string) ([]Examination, error) {
	g, err := New(c, o)
	if err != nil {
		return nil, err
	}
	found := make([]Examination, len(g.servers))
	var looking sync.WaitGroup
	for i, s := range g.servers {
		looking.Go(func() { found[i] = s.examine(ctx, senders) })
	}
	looking.Wait()
	return found, nil
}

func (s *server) examine(ctx context.Context, senders []string) Examination {
	stranger := s.stranger()
	x := Examination{Address: s.address, Stranger: stranger.Addr.Addr()}
	said := &opening{}
	c := &Conn{server: s, client: stranger, probing: true, opening: said}
	start := time.Now()
	x.Err = c.openNew(ctx)
	x.Took, x.Banner, x.Hello, x.Extensions = time.Since(start), said.banner, said.hello, c.extensions
	if x.Err != nil {
		return x
	}
	defer func() { c.Release() }()
	if !s.handsOver() { // it would take us for ourselves
		return x
	}
	x.Relay = append(x.Relay, c.tries(ctx, "<>", "<"+probeRecipient+">"))
	for _, sender := range senders {
		if _, err := c.Command(ctx, []byte("RSET")); err != nil {
			x.Relay = append(x.Relay, RelayTrial{Sender: sender, Err: err})
			break
		}
		x.Relay = append(x.Relay, c.tries(ctx, sender))
	}
	if s.config.ClientAddress != Transparent { // one cannot connect from there
		x.Own = s.triesAsOwn(ctx)
	}
	return x
}

// triesAsOwn asks in the name of a client on the loopback address.
func (s *server) triesAsOwn(ctx context.Context) RelayTrial {
	own := s.stranger()
	own.Addr, own.Helo = netip.MustParseAddrPort("127.0.0.1:1024"), "localhost"
	c := &Conn{server: s, client: own, probing: true}
	if err := c.openNew(ctx); err != nil {
		return RelayTrial{Sender: "<>", Err: err}
	}
	defer c.Release()
	return c.tries(ctx, "<>", "<"+probeRecipient+">")
}

func (c *Conn) tries(ctx context.Context, senders ...string) RelayTrial {
	t := RelayTrial{Sender: senders[0]}
	t.Accepted, t.Reply, t.Err = c.asksToRelay(ctx, senders...)
	if t.Accepted {
		t.Err = nil
	}
	return t
}
