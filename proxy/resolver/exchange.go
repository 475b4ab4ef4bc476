package resolver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// server is one of those that are asked.
type server struct {
	address  string
	near     bool                      // on this machine: its sockets are used again
	spare    spare                     // of these
	timeouts atomic.Int32              // in a row
	last     atomic.Pointer[time.Time] // of these
}

// Three time-outs in a row make a server sick: it is tried last, and once per question. One alone may be the fault of
// the zone that was asked about.
const (
	sickAfter = 3
	sickFor   = 10 * time.Second
)

func (s *server) sick(now time.Time) bool {
	return s.timeouts.Load() >= sickAfter && now.Sub(*s.last.Load()) < sickFor
}

// answered tells whether the server had been sick.
func (s *server) answered() (back bool) {
	return s.timeouts.Load() > 0 && s.timeouts.Swap(0) >= sickAfter
}

// timedOut tells whether that made the server sick.
func (s *server) timedOut(now time.Time) (sick bool) {
	s.last.Store(&now)
	return s.timeouts.Add(1) == sickAfter
}

// rounds bounds how often a server is asked the same question.
const rounds = 3

// ask puts the question to the servers until one answers, the time is over, or the resolver is closed.
func (r *Resolver) ask(k key, until time.Time) *answer {
	q := newQuery(k.question(), k.qtype)
	failure, failed := errNoAnswer, map[*server]bool{}
	for s := range r.order {
		now := time.Now()
		if !now.Before(until) || r.ctx.Err() != nil {
			break
		}
		if failed[s] { // it has answered, and would say the same again
			continue
		}
		a, err := r.askServer(s, q, k, earlier(now.Add(r.attempt), until))
		if err == nil {
			if s.answered() {
				r.log.Info("a DNS server answers again", "server", s.address)
			}
			return a
		}
		if isTimeout(err) {
			r.Metrics.Timeouts.Add(1)
			if s.timedOut(time.Now()) {
				r.log.Warn("a DNS server does not answer; what cannot be known does not match in rules, but for those with on_error: defer", "server", s.address)
			}
			continue
		}
		r.Metrics.Failures.Add(1)
		failed[s] = true
		failure = fmt.Errorf("server %s: %w", s.address, err)
	}
	return temporary(k, failure)
}

// order yields every server of good health in as many rounds as there are; behind the first come the sick ones once.
func (r *Resolver) order(yield func(*server) bool) {
	var sick [maxServers]bool // for all rounds: those that fall sick meanwhile are not skipped
	now := time.Now()
	for i, s := range r.servers {
		sick[i] = s.sick(now)
	}
	for round := range rounds {
		for i, s := range r.servers {
			if !sick[i] && !yield(s) {
				return
			}
		}
		for i, s := range r.servers {
			if sick[i] && round == 0 && !yield(s) {
				return
			}
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (r *Resolver) askServer(s *server, q query, k key, until time.Time) (*answer, error) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)

	a, err := r.exchange(s, q, k, until, buffer[:])
	// RFC 6891, 7: a server that does not know EDNS0 says FORMERR.
	if rejected, ok := err.(serverError); ok && rejected.rcode == dns.RcodeFormatError {
		return r.exchange(s, q.plain(), k, until, buffer[:])
	}
	return a, err
}

func (r *Resolver) exchange(s *server, q query, k key, until time.Time, buffer []byte) (*answer, error) {
	reply, err := r.overUDP(r.ctx, until, s, q, buffer)
	if err == nil && truncated(reply) || errors.Is(err, errMismatched) {
		reply, err = r.overTCP(r.ctx, until, s, q)
	}
	if err != nil {
		return nil, err
	}
	return readAnswer(reply, k)
}

// bufferSize leaves room for servers that send more than we announced.
const bufferSize = 4096

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// maxMismatched is how many replies that do not fit are passed over before the question goes over TCP, where nobody
// can guess his way in (RFC 5452, 9.2).
const maxMismatched = 8

var errMismatched = errors.New("replies that do not fit the question")

// overUDP uses a socket of its own for each query: the port is as hard to guess as the id (RFC 5452, 4.5). Connected,
// it takes datagrams from the server alone. One to a server on this machine is used again when it has been answered.
func (r *Resolver) overUDP(ctx context.Context, until time.Time, s *server, q query, buffer []byte) (reply []byte, err error) {
	conn, err := s.connect(ctx, until)
	if err != nil {
		return nil, err
	}
	release := obey(ctx, until, conn)
	defer func() {
		if release() && err == nil && s.near {
			s.spare.keep(conn)
		} else {
			conn.Close()
		}
	}()
	q.setID(randomID())
	r.Metrics.Queries.Add(1)
	r.Metrics.UDP.Add(1)
	question := q.message
	for range maxMismatched {
		n, err := conn.ask(question, buffer)
		if err != nil {
			return nil, err
		}
		if q.answeredBy(buffer[:n]) {
			return buffer[:n], nil
		}
		question = nil
		r.Metrics.Mismatched.Add(1)
	}
	return nil, errMismatched
}

func (r *Resolver) overTCP(ctx context.Context, until time.Time, s *server, q query) ([]byte, error) {
	d := net.Dialer{Deadline: until}
	conn, err := d.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer obey(ctx, until, conn)()
	q.setID(randomID())
	r.Metrics.Queries.Add(1)
	r.Metrics.TCP.Add(1)
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(q.message)), uint16(len(q.message)))
	if _, err := conn.Write(append(framed, q.message...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, reply); err != nil {
		return nil, err
	}
	if !q.answeredBy(reply) {
		r.Metrics.Mismatched.Add(1)
		return nil, errMismatched
	}
	if truncated(reply) {
		return nil, errors.New("an answer that is truncated even over TCP")
	}
	return reply, nil
}

// connect returns a UDP socket for one question.
func (s *server) connect(ctx context.Context, until time.Time) (*socket, error) {
	if conn := s.spare.take(); conn != nil {
		return conn, nil
	}
	d := net.Dialer{Deadline: until}
	conn, err := d.DialContext(ctx, "udp", s.address)
	if err != nil {
		return nil, err
	}
	return newSocket(conn), nil
}

// obey lets all reading and writing end at a time, and by the end of ctx. release tells whether the latter was prevented.
// The time is not the context's, which would take a timer of its own beside the socket's.
func obey(ctx context.Context, until time.Time, conn net.Conn) (release func() bool) {
	conn.SetDeadline(until)
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}

func randomID() uint16 {
	var id [2]byte
	rand.Read(id[:]) // never fails
	return binary.BigEndian.Uint16(id[:])
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}
