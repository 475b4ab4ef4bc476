package load

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"gatepost/cmd/gatepost-bench/epoll"
)

// drain is how long sessions that are under way when the time is over may take to end, where Options do not say it.
const drain = 3 * time.Second

// How often, in milliseconds, the time is looked at when nothing happens.
const (
	tick      = 20
	pacedTick = 1
)

// Options is what to run.
type Options struct {
	Addr    netip.AddrPort
	Sources []netip.Addr // of clients, taken in turn
	Script  Script
	// Preamble, unless nil, is what the nth client sends first of all, such as a PROXY header.
	Preamble func(n int) []byte
	Parallel int           // sessions at once
	Pace     float64       // sessions begun in a second, of which Parallel are open at most; 0: as many as come to their end
	Duration time.Duration // after it no session is started; those that are open end
	Drain    time.Duration // how long those may take; 0: 3 s
	Sessions int           // stops earlier, after so many; 0: does not
}

// Result is what came of it.
type Result struct {
	Elapsed  time.Duration // until the last session that counts for InTime
	InTime   int64         // transactions that succeeded before Duration was over: the rate is InTime/Elapsed
	All      int64         // and those that did later, while the sessions ended
	Latency  Histogram     // of transactions in time
	Failures Errors
}

// Rate is transactions per second.
func (r *Result) Rate() float64 { return float64(r.InTime) / r.Elapsed.Seconds() }

// Run plays scripts until the time is over or ctx ends. The error is about this machine, such as descriptors that run
// out; what servers do wrong is in Result.Failures.
func Run(ctx context.Context, o Options) (*Result, error) {
	poller, err := epoll.New()
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	g := &generator{Options: o, ctx: ctx, poller: poller, in: make([]byte, 64<<10)}
	defer g.close()
	if err := g.run(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return &g.result, nil
}

// generator runs all sessions on one goroutine.
type generator struct {
	Options
	ctx    context.Context
	poller *epoll.Poller
	result Result

	conns   []*conn // by descriptor; a struct is used again for the next connection with its number
	in      []byte
	began   time.Time
	now     time.Time
	end     time.Time // of the time that counts
	started int       // sessions
	open    int
}

func (g *generator) run() error {
	g.began = time.Now()
	g.now, g.end = g.began, g.began.Add(g.Duration)
	wait := tick
	if g.Pace > 0 {
		wait = pacedTick
	}
	for g.open > 0 || !g.over() {
		if err := g.startThoseDue(); err != nil {
			return err
		}
		events, err := g.poller.Wait(wait)
		if err != nil {
			return err
		}
		if g.now = time.Now(); g.now.After(g.end.Add(cmp.Or(g.Drain, drain))) {
			g.giveUp()
		}
		for _, e := range events {
			g.now = time.Now()
			c := g.conns[e.Fd]
			if g.serve(c, e.Events); c.open {
				continue
			}
			if err := g.startThoseDue(); err != nil {
				return err
			}
		}
	}
	g.result.Elapsed = min(g.now.Sub(g.began), g.Duration)
	return g.ctx.Err()
}

// over tells whether no session is started any more.
func (g *generator) over() bool {
	return !g.now.Before(g.end) || g.ctx.Err() != nil || g.Sessions > 0 && g.started == g.Sessions
}

// startThoseDue opens as many sessions as there is room for and the pace allows. One that is late is made up for.
func (g *generator) startThoseDue() error {
	for g.open < g.Parallel && !g.over() && (g.Pace == 0 || float64(g.started) < g.Pace*g.now.Sub(g.began).Seconds()) {
		if err := g.start(); err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) start() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c := g.adopt(fd)
	c.begin(g.now)
	number := g.started
	source := g.Sources[number%len(g.Sources)]
	g.started++
	if err := connect(fd, source, g.Addr); err != nil {
		return fmt.Errorf("connect from %s to %s: %w", source, g.Addr, err)
	}
	if err := g.poller.Add(fd, unix.EPOLLIN); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if g.Preamble != nil {
		c.unsent = g.Preamble(number)
		g.write(c)
	}
	return nil
}

func (g *generator) adopt(fd int) *conn {
	for fd >= len(g.conns) {
		g.conns = append(g.conns, nil)
	}
	c := g.conns[fd]
	if c == nil {
		c = &conn{}
		g.conns[fd] = c
	}
	*c = conn{fd: fd, open: true, line: c.line[:0]}
	g.open++
	return c
}

// serve goes on with a session that can.
func (g *generator) serve(c *conn, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		g.write(c)
		if !c.open {
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
		return
	}
	n, err := unix.Read(c.fd, g.in)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil:
		g.fail(c, fmt.Sprintf("%s: %v", g.awaited(c), err))
	case n == 0:
		g.fail(c, g.awaited(c)+": the server hung up")
	default:
		g.take(c, g.in[:n])
	}
}

// send starts to send what the step says.
func (g *generator) send(c *conn, s *Step) {
	if s.Begins {
		c.begin(g.now)
	}
	c.unsent = s.Send
	g.write(c)
}

// write sends as much as the socket takes and waits for room for the rest.
func (g *generator) write(c *conn) {
	n, err := unix.Write(c.fd, c.unsent)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		n = 0
	case err != nil:
		g.fail(c, fmt.Sprintf("sending for the reply to %s: %v", g.awaited(c), err))
		return
	}
	c.unsent = c.unsent[n:]
	if waiting := len(c.unsent) > 0; waiting != c.blocked {
		c.blocked = waiting
		events := uint32(unix.EPOLLIN)
		if waiting {
			events |= unix.EPOLLOUT
		}
		if err := g.poller.Modify(c.fd, events); err != nil {
			g.fail(c, fmt.Sprintf("epoll: %v", err))
		}
	}
}

func (g *generator) fail(c *conn, text string) {
	g.result.Failures.Add(text)
	g.hangUp(c)
}

func (g *generator) hangUp(c *conn) {
	unix.Close(c.fd)
	c.open = false
	g.open--
}

// giveUp reports sessions that got stuck.
func (g *generator) giveUp() {
	for _, c := range g.conns {
		if c != nil && c.open {
			g.fail(c, g.awaited(c)+": no reply before the end of the measurement")
		}
	}
}

func (g *generator) close() {
	for _, c := range g.conns {
		if c != nil && c.open {
			g.hangUp(c)
		}
	}
	g.poller.Close()
}
