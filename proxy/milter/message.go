package milter

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
	"gatepost/policy"
	"gatepost/rules"
)

// errAbandoned is what readers of a message get when it is not going to be complete.
var errAbandoned = errors.New("the message was abandoned by its sender")

// data is the DATA command: all recipients are known.
func (s *session) data() {
	switch {
	case !s.hasClient("DATA"):
		return
	case s.tx == nil || s.tx.message != nil:
		s.misplaced("DATA")
		return
	case s.tx.fault.Code != 0: // said at the end
		s.proceed()
		return
	}
	v := s.gate.Data(s.within(s.service().Limits.EnvelopeBudget))
	if reply, refused := s.verdict(v); refused {
		s.conclude(policy.Ending{Reply: reply, Ours: true})
		return
	}
	s.startMessage()
}

// startMessage lets the observations of the message begin.
func (s *session) startMessage() {
	limits := &s.service().Limits
	s.tx.memory = s.server.memory.Claim(int64(limits.MessageMemory), int64(limits.Memory))
	s.tx.message = filters.NewMessage(s.tx.memory.Held(), s.server.spill)
	s.gate.Message(s.tx.message)
}

// inMessage tells whether what came belongs to a message. MTAs before version 4 of the protocol do not tell of DATA: its
// verdict is said at the end then.
func (s *session) inMessage() bool {
	if s.tx == nil || s.gate == nil {
		return false
	}
	if s.tx.message == nil && s.tx.fault.Code == 0 {
		v := s.gate.Data(s.within(s.service().Limits.EnvelopeBudget))
		if stops(v) {
			s.tx.fault = s.replyOf(v)
			return true
		}
		s.startMessage()
	}
	return true
}

// header takes a field, and makes of it again what it was on the wire: CRLF at the end of each line.
func (s *session) header(data []byte) error {
	name, value, ok := wire.Header(data)
	if !ok {
		return errors.New("HEADER is malformed")
	}
	if !s.inMessage() {
		s.unlessSilent(milter.OptNoHeaderReply, func() { s.misplaced("HEADER") })
		return nil
	}
	if tx := s.tx; tx.fault.Code == 0 && !tx.headDone {
		tx.head = appendName(tx.head, name)
		tx.head = append(tx.head, ':')
		if !s.has(milter.OptHeaderLeadingSpace) { // the MTA has taken the blank away that all write
			tx.head = append(tx.head, ' ')
		}
		tx.head = append(appendFolded(tx.head, value), "\r\n"...)
		if len(tx.head) > headPiece {
			s.keepHead()
		}
	}
	s.unlessSilent(milter.OptNoHeaderReply, s.proceed)
	return nil
}

// headPiece is how many bytes of fields are gathered: readers are woken once for all of them.
const headPiece = 32 << 10

// unlessSilent answers where it was not agreed that there is no answer.
func (s *session) unlessSilent(option milter.OptProtocol, answer func()) {
	if !s.has(option) {
		answer()
	}
}

// appendName keeps a field's name one: the fields that we count must be those that the MTA counts.
func appendName(dst, name []byte) []byte {
	start := len(dst)
	dst = append(dst, bytes.TrimRight(name, " \t")...)
	for i, b := range dst[start:] {
		if b <= ' ' || b > '~' || b == ':' {
			dst[start+i] = '?'
		}
	}
	return dst
}

// appendFolded appends a value whose lines end with LF or CRLF. A line end that no white space follows would begin
// another field: it gets a blank. A bare CR and NUL become blanks.
func appendFolded(dst, value []byte) []byte {
	for i, b := range value {
		next := byte(0)
		if i+1 < len(value) {
			next = value[i+1]
		}
		switch {
		case b == '\r' && next == '\n':
		case b == '\r' || b == 0:
			dst = append(dst, ' ')
		case b == '\n':
			dst = append(dst, "\r\n"...)
			if next != ' ' && next != '\t' {
				dst = append(dst, ' ')
			}
		default:
			dst = append(dst, b)
		}
	}
	return dst
}

// endOfHeader is EOH.
func (s *session) endOfHeader() {
	if !s.inMessage() {
		s.unlessSilent(milter.OptNoEOHReply, func() { s.misplaced("EOH") })
		return
	}
	s.closeHead()
	s.unlessSilent(milter.OptNoEOHReply, s.proceed)
}

// closeHead ends the header block, and finds out whether the body is of use to anybody.
func (s *session) closeHead() {
	tx := s.tx
	if tx.headDone || tx.message == nil {
		return
	}
	tx.headDone = true
	tx.head = append(tx.head, "\r\n"...)
	s.keepHead()
	tx.head = nil
	tx.leave = s.gate.LeaveBody()
}

func (s *session) keepHead() {
	for head := s.tx.head; len(head) > 0 && s.tx.fault.Code == 0; {
		n := copy(s.tx.message.Space(), head)
		head = head[n:]
		s.keep(n)
	}
	s.tx.head = s.tx.head[:0]
}

// body takes a chunk. An MTA that knows SKIP sends no more of what is of no use.
func (s *session) body(size int) error {
	if !s.inMessage() {
		s.misplaced("BODY")
		return nil
	}
	s.closeHead()
	if err := s.receive(size); err != nil {
		return err
	}
	if (s.tx.leave || s.tx.fault.Code != 0) && s.has(milter.OptSkip) {
		s.respond(milter.ActSkip)
		return nil
	}
	s.proceed()
	return nil
}

// largeMessage is how many bytes of a message the filters let come before they begin to read it.
const largeMessage = 64 << 10

// receive reads the data of the present frame into the message.
func (s *session) receive(size int) error {
	tx := s.tx
	for size > 0 && tx.fault.Code == 0 && !tx.leave {
		room := tx.message.Space()
		n, err := s.r.Read(room[:min(size, len(room))])
		if err != nil {
			return err
		}
		size -= n
		s.keep(n)
	}
	if tx.size > largeMessage && tx.fault.Code == 0 && !tx.leave {
		s.gate.Growing()
	}
	return nil
}

// keep appends n bytes that are in the message's space.
func (s *session) keep(n int) {
	tx := s.tx
	limits := &s.service().Limits
	tx.size += int64(n)
	if tx.size > int64(limits.MessageSize) {
		s.fail(s.sign(552, "5.3.4", "The message is larger than "+strconv.FormatInt(int64(limits.MessageSize), 10)+" bytes"))
		return
	}
	if err := tx.message.Commit(n); err != nil {
		if errors.Is(err, filters.ErrSpillFull) {
			s.server.metrics.SpillFull.Add(1)
		}
		s.Log().Error("no room for a message", "transaction", tx.envelope.ID, "size", tx.size, "error", err)
		s.fail(s.sign(452, "4.3.1", "No room for this message now, please try again later"))
		return
	}
	tx.memory.Widen(tx.message, tx.size)
}

// fail makes r the reply to the message, and stops those who read it.
func (s *session) fail(r rules.Reply) {
	s.tx.fault = r
	s.tx.message.Abort(errAbandoned)
}
