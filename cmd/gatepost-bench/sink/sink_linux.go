package sink

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"gatepost/cmd/gatepost-bench/epoll"
)

const (
	backlog  = 4096
	readSize = 256 << 10
	// tick is how often, in milliseconds, the loop looks whether it is to end.
	tick = 100
)

// Options is what a sink offers.
type Options struct {
	Chunking bool // BDAT (RFC 3030)
}

// Counts is what a sink has seen.
type Counts struct {
	Messages int64 // that ended as they should
	Bytes    int64 // of their content as it came, dots added by senders included
	Broken   int64 // messages that did not end before the connection did
}

// Sink is a running server. Its methods are safe for concurrent use.
type Sink struct {
	addr     netip.AddrPort
	listener int
	poller   *epoll.Poller
	ehlo     string
	chunking bool

	messages, bytes, broken atomic.Int64

	closing atomic.Bool
	done    chan struct{}

	// The rest belongs to the loop.
	conns []*conn // by descriptor; a struct is used again for the next connection with its number
	in    []byte
	out   []byte
}

// Listen starts a sink on a free port of 127.0.0.1. It has to be closed.
func Listen(o Options) (*Sink, error) {
	s := &Sink{ehlo: hello(o), chunking: o.Chunking, done: make(chan struct{}), in: make([]byte, readSize)}
	var err error
	if s.listener, s.addr, err = listen(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if s.poller, err = epoll.New(); err != nil {
		unix.Close(s.listener)
		return nil, fmt.Errorf("sink: %w", err)
	}
	if err := s.poller.Add(s.listener, unix.EPOLLIN); err != nil {
		unix.Close(s.listener)
		s.poller.Close()
		return nil, fmt.Errorf("sink: %w", err)
	}
	go s.loop()
	return s, nil
}

func listen() (fd int, addr netip.AddrPort, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, addr, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	// Accepted connections inherit it.
	if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return -1, addr, err
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, addr, err
	}
	if err = unix.Listen(fd, backlog); err != nil {
		return -1, addr, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, addr, err
	}
	in4 := name.(*unix.SockaddrInet4)
	return fd, netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), uint16(in4.Port)), nil
}

// Addr is where it listens.
func (s *Sink) Addr() netip.AddrPort { return s.addr }

// Counts returns what has been seen so far.
func (s *Sink) Counts() Counts {
	return Counts{Messages: s.messages.Load(), Bytes: s.bytes.Load(), Broken: s.broken.Load()}
}

// Close ends the sink and every connection to it.
func (s *Sink) Close() {
	s.closing.Store(true)
	<-s.done
}

func (s *Sink) loop() {
	defer close(s.done)
	defer s.closeAll()
	for !s.closing.Load() {
		events, err := s.poller.Wait(tick)
		if err != nil {
			return // the descriptor is ours and open: it cannot fail
		}
		for _, e := range events {
			switch fd := int(e.Fd); {
			case fd == s.listener:
				s.accept()
			default:
				s.serve(s.conns[fd])
			}
		}
	}
}

func (s *Sink) accept() {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // nobody waits any more, or the descriptors are used up: those who wait see no greeting
		}
		for fd >= len(s.conns) {
			s.conns = append(s.conns, nil)
		}
		c := s.conns[fd]
		if c == nil {
			c = &conn{}
			s.conns[fd] = c
		}
		c.reset(fd)
		if s.poller.Add(fd, unix.EPOLLIN) != nil {
			s.end(c)
			continue
		}
		s.out = append(s.out[:0], banner...)
		s.reply(c)
	}
}

// serve reads once; what is left makes the descriptor ready again.
func (s *Sink) serve(c *conn) {
	n, err := unix.Read(c.fd, s.in)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil || n == 0:
		s.end(c)
		return
	}
	s.out = s.out[:0]
	s.take(c, s.in[:n])
	s.reply(c)
}

// reply writes all replies of a batch at once. A client that does not read its replies has no place in a measurement.
func (s *Sink) reply(c *conn) {
	if len(s.out) > 0 {
		if n, err := unix.Write(c.fd, s.out); err != nil || n < len(s.out) {
			s.end(c)
			return
		}
	}
	if c.state == ended {
		s.end(c)
	}
}

func (s *Sink) end(c *conn) {
	if c.state == data || c.state == chunk {
		s.broken.Add(1)
	}
	unix.Close(c.fd)
	c.state, c.open = ended, false
}

func (s *Sink) closeAll() {
	for _, c := range s.conns {
		if c != nil && c.open {
			s.end(c)
		}
	}
	unix.Close(s.listener)
	s.poller.Close()
}
