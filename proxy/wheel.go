package proxy

import "time"

const (
	tick  = 100 * time.Millisecond
	slots = 512
)

// wheel is a hashed timing wheel: an intrusive list of sessions per slot. Setting and clearing a time costs a few
// pointers and no allocation, whatever the number of sessions; a time is met to within two ticks, never early.
// A heap or a time.Timer each would cost every waiting session ten times the memory. Guarded by its owner.
type wheel struct {
	heads [slots]*session
	start time.Time
	swept ticks // have been dealt with
}

// timer is a session's place in the wheel.
type timer struct {
	next, prev *session
}

// ticks are a time since the wheel's start: enough for six years.
type ticks int32

func (w *wheel) ticks(t time.Time) ticks { return ticks(t.Sub(w.start) / tick) }

// set makes s due after d, counted from now.
func (w *wheel) set(s *session, now time.Time, d time.Duration) {
	s.due = max(w.ticks(now.Add(d))+1, w.swept+1)
	head := &w.heads[s.due%slots]
	s.timer.prev, s.timer.next = nil, *head
	if *head != nil {
		(*head).timer.prev = s
	}
	*head = s
}

// clear forgets when s is due.
func (w *wheel) clear(s *session) {
	if s.due == 0 {
		return
	}
	if s.timer.prev != nil {
		s.timer.prev.timer.next = s.timer.next
	} else {
		w.heads[s.due%slots] = s.timer.next
	}
	if s.timer.next != nil {
		s.timer.next.timer.prev = s.timer.prev
	}
	s.timer, s.due = timer{}, 0
}

// expire appends the sessions that are due, and clears them.
func (w *wheel) expire(now time.Time, due []*session) []*session {
	until := w.ticks(now)
	from := max(w.swept+1, until-slots+1) // a late sweep visits each slot once
	for t := from; t <= until; t++ {
		for s := w.heads[t%slots]; s != nil; {
			next := s.timer.next
			if s.due <= until {
				w.clear(s)
				due = append(due, s)
			}
			s = next
		}
	}
	w.swept = max(w.swept, until)
	return due
}
