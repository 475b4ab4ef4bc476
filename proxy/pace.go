package proxy

import "time"

// pace is how fast the bytes of a message come. Only the time for which we have waited for them counts: a disk or a
// processor that is slow is not the client's fault.
type pace struct {
	begun    time.Time     // when the first byte was asked for
	received int64         // bytes in the window that is measured now, as they come over the wire
	waited   time.Duration // for them
}

// paceWindow is what the rate is an average of: long enough for a few lost packets and a retransmission.
const paceWindow = 30 * time.Second

// add takes note of a wait and of what it brought.
func (p *pace) add(waited time.Duration, received int) {
	p.waited += waited
	p.received += int64(received)
}

// measure tells whether less than rate bytes a second came in a window that is over now, and begins the next then. left is
// how much of a window is left.
func (p *pace) measure(rate int64, window time.Duration) (slow bool, left time.Duration) {
	if p.waited >= window {
		slow = float64(p.received) < float64(rate)*p.waited.Seconds()
		p.waited, p.received = 0, 0
	}
	return slow, window - p.waited
}

// crowded tells whether sessions, or memory for messages, are three quarters used up. Slow senders are let alone until
// then: they cost little, and a bad line is no crime.
func (s *session) crowded() bool {
	limits := &s.service.Limits
	return s.server.metrics.Open.Load()*4 > int64(limits.Connections)*3 || s.server.memory.Used()*4 > int64(limits.Memory)*3
}

// tooSlow tells whether the message comes slower than limits.min_data_rate while others have need of the room. It wants
// to be asked again when left has been waited for.
func (s *session) tooSlow(p *pace) (slow bool, left time.Duration) {
	limits := &s.service.Limits
	slow, left = p.measure(int64(limits.MinDataRate), min(paceWindow, time.Duration(limits.DataTimeout)/2))
	return slow && s.crowded(), left
}
