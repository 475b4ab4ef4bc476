package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	probeQuestion = "are you there?\r\n"
	probeAnswer   = "yes\r\n"
	probeTimeout  = 10 * time.Second
)

// Probe goes the way of a client through what all clients need: it is admitted as one, waits where they wait, is woken by
// what arrives at its socket, runs, and is answered. Nobody else hears of it: it has no address, no facts, no record. The
// error tells that it was not answered before ctx ended, or that clients who have come were not accepted in that time.
//
// It does not come by a listening socket. During an upgrade that is shared with another process, which would take it for a
// client; in a flood it would wait behind thousands; and a confined process may not connect to its own port. That
// clients are accepted is seen from the sockets' queues instead.
func (s *Server) Probe(ctx context.Context) error {
	return errors.Join(s.probe(ctx), s.checkAccepting(ctx))
}

func (s *Server) probe(ctx context.Context) error {
	ours, theirs, err := connectedPair()
	if err != nil {
		return fmt.Errorf("self-check: %w", err)
	}
	defer ours.Close()
	if deadline, ok := ctx.Deadline(); ok {
		ours.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { ours.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if !s.admitProbe(theirs) {
		return errors.New("self-check: the proxy is shutting down")
	}
	if _, err := ours.Write([]byte(probeQuestion)); err != nil {
		return fmt.Errorf("self-check: %w", err)
	}
	if answer, err := bufio.NewReader(ours).ReadString('\n'); err != nil || answer != probeAnswer {
		return fmt.Errorf("self-check: no answer: %w", err)
	}
	return nil
}

// admitProbe is admit for a probe. It does not count for limits.
func (s *Server) admitProbe(a arrival) bool {
	session := s.newSession(nil, &listenConfig{}, a)
	session.phase = phaseProbe
	if !s.enlistProbe(session) {
		session.conn.hangUp()
		return false
	}
	go session.drive(wakeStart)
	return true
}

// enlistProbe is enlist for a session that may begin at any time: false, it does not, for those that are there end.
func (s *Server) enlistProbe(session *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	v, ok := s.service.Acquire()
	if !ok {
		return false
	}
	session.service = v
	s.metrics.Open.Add(1)
	s.add(session)
	return true
}

// echo answers a probe.
func (s *session) echo(why wake) wait {
	switch why {
	case wakeStart:
		return wait{input: true, limit: probeTimeout}
	case wakeInput:
		s.read()
		s.b.out = append(s.b.out, probeAnswer...)
		s.flush()
	}
	s.note = endProbe
	return wait{over: true}
}

// queueInterval is how often a queue is looked at in which somebody waits.
const queueInterval = 20 * time.Millisecond

// checkAccepting returns when at each door either nobody waits in the socket's queue, or somebody was taken meanwhile.
func (s *Server) checkAccepting(ctx context.Context) error {
	for _, d := range s.doors.Open() {
		for before := d.Turns(); ; {
			waiting := queued(d.Socket())
			if waiting == 0 || d.Turns() != before {
				break
			}
			select {
			case <-time.After(queueInterval):
			case <-ctx.Done():
				return fmt.Errorf("self-check: %d clients wait at %s, and nobody is accepted", waiting, d.Socket().Addr())
			}
		}
	}
	return nil
}
