package proxy

import (
	"errors"
	"hash"
	"net"
	"strconv"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/wire"
)

// incoming is a message on its way in.
type incoming struct {
	message *filters.Message // nil before DATA or BDAT
	decoder wire.DataDecoder
	chunked bool       // by BDAT
	pace    pace       // of its bytes
	size    int64      // bytes of the message so far
	failed  wire.Reply // why the rest is thrown away, and the reply to it; Code 0: all is well
	trash   []byte     // where the rest is decoded to then
	hash    hash.Hash  // of the message so far; nil: nobody wants its digest
	digest  [32]byte   // of the whole message, when it is complete
}

var (
	errKilled = errors.New("the proxy has to stop now")
	errSlow   = errors.New("the client was silent for too long")

	errTooSlow = errors.New("the message comes too slowly for a crowded server")
)

// data takes a message (RFC 5321, 4.1.1.4). The 354 is ours: whether the backend takes the message is found out when
// it is complete and was judged.
func (s *session) data(c wire.Command) {
	switch {
	case !s.inSequence():
	case c.Arg != "":
		s.fault(501, "5.5.4", "DATA takes no argument")
	case s.tx != nil && s.tx.incoming.chunked:
		s.fault(503, "5.5.1", "The message has begun with BDAT")
	case !s.readyForMessage():
	case s.tx.binary: // RFC 3030, 3
		s.fault(503, "5.5.1", "BODY=BINARYMIME needs BDAT")
	case s.startMessage(wire.Dots):
		s.b.out = append(s.b.out, "354 End data with <CR><LF>.<CR><LF>\r\n"...)
		if s.receive(-1) {
			s.endOfData()
		}
	}
}

// readyForMessage tells whether there is somebody to send a message to, and answers if not.
func (s *session) readyForMessage() bool {
	switch {
	case s.tx == nil:
		s.outOfSequence("MAIL and RCPT come first")
	case len(s.tx.rcpts) == 0 && s.tx.tried > 0: // no mistake of a client that pipelines (RFC 2920, 3.1)
		s.say(554, "5.5.1", "No valid recipients")
	case len(s.tx.rcpts) == 0:
		s.fault(503, "5.5.1", "RCPT comes first")
	default:
		return true
	}
	return false
}

// startMessage asks the gate and lets the observations of the message begin.
func (s *session) startMessage(framing wire.Framing) bool {
	s.reach(StageData)
	v := s.gate.Data(s.budget(s.service.Limits.EnvelopeBudget))
	s.linger(v.Delay)
	if stops(v) {
		s.conclude(policy.Ending{Reply: record(s.speak(v)), Ours: true})
		s.forgiving = true
		return false
	}
	s.tx.memory = s.server.memory.Claim(int64(s.service.Limits.MessageMemory), int64(s.service.Limits.Memory))
	s.tx.incoming = incoming{
		message: filters.NewMessage(s.tx.memory.Held(), s.server.spill),
		decoder: wire.NewDataDecoder(framing),
		chunked: framing != wire.Dots,
		pace:    pace{begun: time.Now()},
		hash:    s.service.takeDigest(),
	}
	s.gate.Message(s.tx.incoming.message)
	return true
}

// bdat takes a chunk of a message (RFC 3030, 2). Whatever is wrong, exactly its bytes are read: what is left of them
// would be taken for commands.
func (s *session) bdat(c wire.Command) {
	size, last, err := wire.ParseBdat(c.Arg)
	if err != nil {
		// Where the chunk ends is unknown, so all that follows may be a part of it.
		s.hangUp(501, "5.5.4", err.Error())
		return
	}
	if !s.readyForChunk() {
		if !s.over {
			s.waste(size)
		}
		return
	}
	if !s.receive(size) {
		return
	}
	in := &s.tx.incoming
	switch {
	case last:
		room := s.room()
		s.keep(room[:in.decoder.Finish(room)])
		s.endOfData()
	case in.failed.Code != 0: // RFC 3030, 2: the message has failed; chunks that are under way are answered with 503
		s.relay(in.failed)
		s.conclude(policy.Ending{Reply: record(in.failed), Ours: true})
		s.forgiving = true
	default:
		s.gate.Growing() // the next chunk has to be waited for
		s.say(250, "2.0.0", strconv.FormatInt(size, 10)+" bytes received")
	}
}

// readyForChunk begins the message with its first chunk.
func (s *session) readyForChunk() bool {
	switch {
	case s.over || !s.inSequence():
		return false
	case s.tx != nil && s.tx.incoming.chunked:
		return true
	case s.offered == nil || !s.offered.Chunking:
		s.fault(502, "5.5.1", "BDAT was not offered")
		return false
	}
	framing := wire.Chunks
	if s.tx != nil && s.tx.binary {
		framing = wire.Binary
	}
	return s.readyForMessage() && s.startMessage(framing)
}

// receive reads the message up to its end, or n bytes of it if n is not negative. False: the session is at its end.
func (s *session) receive(n int64) bool {
	for n != 0 {
		input := s.b.unread()
		if n > 0 {
			input = input[:min(n, int64(len(input)))]
		}
		if len(input) == 0 {
			if !s.more(&s.tx.incoming.pace) {
				return false
			}
			continue
		}
		used, done := s.take(input)
		s.b.r += used
		if n > 0 {
			n -= int64(used)
		}
		if done {
			break
		}
		if n != 0 && s.tx.incoming.failed.Code == 0 {
			s.gate.Growing()
		}
	}
	s.b.shrink()
	return true
}

// waste reads n bytes and forgets them. Replies that are due go out first.
func (s *session) waste(n int64) {
	p := pace{begun: time.Now()}
	for n > 0 && !s.broken {
		k := min(n, int64(len(s.b.unread())))
		s.b.r += int(k)
		if n -= k; n > 0 && !s.more(&p) {
			return
		}
	}
	s.b.shrink()
}

// take decodes input into the message. Copying is the decoder's work: it has to look at every byte anyway.
func (s *session) take(input []byte) (used int, done bool) {
	in := &s.tx.incoming
	for used < len(input) && !done {
		var written, n int
		room := s.room()
		written, n, done = in.decoder.Decode(room, input[used:])
		used += n
		s.keep(room[:written])
	}
	return used, done
}

// room returns where to decode to.
func (s *session) room() []byte {
	in := &s.tx.incoming
	if in.failed.Code == 0 {
		return in.message.Space()
	}
	if in.trash == nil {
		in.trash = make([]byte, trashSize)
	}
	return in.trash
}

const trashSize = 4 << 10

// keep appends what was decoded into the room. After a failure the rest is still read, to its end: stopping early would
// let it pass for commands.
func (s *session) keep(decoded []byte) {
	in := &s.tx.incoming
	in.size += int64(len(decoded))
	s.b.shown.bytes.Store(in.size)
	if in.failed.Code != 0 {
		return
	}
	if limit := s.sizeLimit(); in.size > limit {
		s.fail(s.failure(552, "5.3.4", "The message is larger than "+strconv.FormatInt(limit, 10)+" bytes"))
		return
	}
	if in.hash != nil {
		in.hash.Write(decoded)
	}
	if err := in.message.Commit(len(decoded)); err != nil {
		if errors.Is(err, filters.ErrSpillFull) {
			s.server.metrics.SpillFull.Add(1)
		} else {
			s.server.metrics.SpillErrors.Add(1)
		}
		s.log().Error("no room for a message", "transaction", s.tx.envelope.ID, "size", in.size, "error", err)
		s.fail(s.failure(452, "4.3.1", "No room for this message now, please try again later"))
		return
	}
	s.tx.memory.Widen(in.message, in.size)
}

// fail makes r the reply to the message, and stops those who read it.
func (s *session) fail(r wire.Reply) {
	s.tx.incoming.failed = r
	s.tx.incoming.message.Abort(errAbandoned)
}

// more waits for input in the middle of a message; all that was read is used up. A backend is not kept waiting longer
// than backend.hold. False: the session is at its end.
func (s *session) more(p *pace) bool {
	if !s.flush() {
		s.over, s.note = true, endLeft
		return false
	}
	if !s.b.dry && s.b.w == len(s.b.input) {
		s.b.grow()
		s.server.lot.hush(s)
	}
	limits := &s.service.Limits
	s.conn.patient = true
	defer s.impatient()
	limit := time.Now().Add(time.Duration(limits.DataTimeout))
	if whole := p.begun.Add(time.Duration(limits.MessageTimeout)); whole.Before(limit) {
		limit = whole
	}
	for {
		now := time.Now()
		slow, left := s.tooSlow(p)
		if slow {
			return s.giveUp(errTooSlow)
		}
		deadline := now.Add(left)
		if limit.Before(deadline) {
			deadline = limit
		}
		if s.backend != nil && !s.personal() {
			if hold := s.idle.add(s.hold()).time(); !now.Before(hold) {
				s.releaseBackend()
			} else if hold.Before(deadline) {
				deadline = hold
			}
		}
		s.conn.SetReadDeadline(deadline)
		s.conn.dry = s.conn.dry && !s.b.bulk // more of a large message has mostly come since the latest read
		if s.server.killed.Load() {          // its interruption may have come before our deadline
			return s.giveUp(errKilled)
		}
		n, err := s.read()
		p.add(time.Since(now), n)
		switch {
		case n > 0:
			return true
		case err == nil:
		case !isTimeout(err):
			return s.giveUp(err)
		case !time.Now().Before(limit):
			return s.giveUp(errSlow)
		case s.server.killed.Load():
			return s.giveUp(errKilled)
		}
	}
}

func (s *session) impatient() {
	s.conn.patient = false
	s.conn.SetReadDeadline(time.Time{})
}

// giveUp ends the session in the middle of a message.
func (s *session) giveUp(why error) bool {
	s.over = true
	switch why {
	case errSlow:
		s.server.metrics.Timeouts.Add(1)
		s.note = endTimeoutInMessage
		s.say(421, "4.4.2", "Timeout in the message, closing the connection")
	case errTooSlow:
		s.server.metrics.TooSlow.Add(1)
		s.note = endTooSlow
		s.log().Info("a slow client is sent away: the server is crowded", "least", s.service.Limits.MinDataRate)
		s.say(421, "4.4.2", "The message comes too slowly, and this server is busy; please try again later")
	case errKilled:
		s.note = endShutdown
		s.say(421, "4.3.2", s.service.Hostname+" is shutting down, please try again")
	default:
		s.note = endLeftInMessage
		s.broken = true
	}
	return false
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}
