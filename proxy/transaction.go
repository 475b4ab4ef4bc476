package proxy

import (
	"context"
	"errors"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/backend"
	"gatepost/proxy/front"
	"gatepost/proxy/wire"
)

// transaction is a mail transaction: MAIL, RCPT, and the message (RFC 5321, 3.3).
type transaction struct {
	envelope  *filters.Envelope
	mail      []byte      // the command for the backend, as the client gave it
	mailReply wire.Reply  // of the latest backend that was told; Code 0: none was
	due       bool        // the client waits for the reply to MAIL: it goes to the backend together with the first RCPT
	told      bool        // mailReply was relayed
	binary    bool        // BODY=BINARYMIME
	pending   [][]byte    // the commands of recipients who go to the backend together with the next one
	rcpts     [][]byte    // the commands of the recipients who were told 250, in order
	tried     int         // RCPT commands
	backend   string      // address of the latest backend that was asked
	memory    front.Claim // of the message
	incoming  incoming    // its message

	readdressed string // how mail and rcpts differ from what the client said; empty: not at all

	answered  bool         // its message was
	delivered bool         // and taken by the backend
	queueID   string       // there
	copies    []string     // fingerprints by which a second delivery is known; nil: nobody asks
	copyOf    string       // the ID of the first delivery, for which this one was taken
	earlier   *transaction // next in session.unread
}

// linkState is what the backend's session has seen of the transaction.
type linkState uint8

const (
	linkIdle  linkState = iota // no transaction
	linkOpen                   // MAIL and the recipients of ours, nothing else
	linkStale                  // something else: RSET is due
)

// conclude ends the transaction and tells the gate how.
func (s *session) conclude(e policy.Ending) {
	tx := s.tx
	s.tx = nil
	s.reach(StageCommands)
	e.Backend = tx.backend
	if s.link == linkOpen {
		s.link = linkStale
		if s.backend.Begun() {
			s.dropBackend() // it waits for a message that does not come
		}
	}
	tx.memory.Release()
	if m := tx.incoming.message; m != nil {
		m.Abort(errAbandoned)
		defer m.Release()
		e.Size = m.Size()
		e.Digest = tx.incoming.digest
		tx.incoming.endDigest()
	}
	s.gate.Conclude(e)
	if !tx.answered {
		s.fruitless++
		return
	}
	s.fruitless = 0
	s.awaitReading(tx)
}

// errAbandoned is what readers of a message get when it is not going to be complete.
var errAbandoned = errors.New("the message was abandoned by its sender")

// client is what the backend is told. That includes the client's names: a backend that is handed an address does not look
// them up itself.
func (s *session) client(ctx context.Context) backend.Client {
	c := backend.Client{
		Addr:     s.info.AddrPort(),
		Local:    s.info.Local(),
		Name:     s.info.VerifiedName(),
		Helo:     s.greeting.Name,
		Extended: s.offered != nil, // what the client was promised counts, whatever it said to a proxy in front
		Promised: s.offered,
	}
	if c.Name != "" { // a peer in front has looked
		return c
	}
	confirmed, claimed, known := s.gate.ClientNames(ctx)
	c.Name, c.ReverseName = confirmed, claimed
	if known && claimed == "" {
		c.ReverseName = backend.Unavailable
	}
	return c
}

// dial opens a session with a backend if there is none.
func (s *session) dial(ctx context.Context) error {
	if s.backend != nil {
		return nil
	}
	if s.extras().user != "" {
		return errSignedOut
	}
	conn, err := s.mta().Dial(ctx, s.client(ctx))
	if err != nil {
		if refusesClient(err) {
			s.log().Info("the backend refuses the client", "for", s.id(), "error", err)
			return err
		}
		s.server.metrics.DialErrors.Add(1)
		s.log().Error("no backend can be had", "for", s.id(), "error", err)
		return err
	}
	s.backend, s.link, s.idle = conn, linkIdle, now()
	return nil
}

// redial replaces a session that was lost: by one with a backend that was not tried yet, or else, since a server that
// was restarted is there again, with any.
func (s *session) redial(ctx context.Context) error {
	failed := s.backend
	s.backend, s.link = nil, linkIdle
	if s.extras().user != "" {
		failed.Close()
		return errSignedOut
	}
	conn, err := s.mta().DialNext(ctx, s.client(ctx), failed)
	if err != nil {
		return s.dial(ctx)
	}
	s.backend, s.idle = conn, now()
	return nil
}

// dropBackend closes the backend's session.
func (s *session) dropBackend() {
	if s.backend != nil {
		s.backend.Close()
		s.backend, s.link = nil, linkIdle
	}
}

// releaseBackend gives the backend's session back.
func (s *session) releaseBackend() {
	if s.backend != nil {
		s.backend.Release()
		s.backend, s.link = nil, linkIdle
	}
}

// hold is how long the backend waits for the client. When its connections are all but used up it is short: clients
// that say nothing could keep all of them, at no cost, and with them all mail out.
func (s *session) hold() time.Duration {
	if s.backend.Crowded() {
		return min(s.service.Hold, shortHold)
	}
	return s.service.Hold
}

// shortHold is longer than most round trips. 1,000 clients that send a byte a second come to 100 connections in turns of it, so all
// others wait for ten of them.
const shortHold = 250 * time.Millisecond

// batch bounds the commands that are sent before their replies are read: both ends' buffers hold them.
const batch = 50

// errRset says that a backend would not forget a transaction.
var errRset = errors.New("RSET was refused")

// outcome is what a backend has said to what it was told.
type outcome struct {
	replies []wire.Reply // to the new lines, in order; the last is a 421 if there are fewer
	refused bool         // it did not want MAIL or a recipient (any more)
	refusal wire.Reply   // its word on that
}

// exchange brings a backend's session to where the transaction stands, MAIL and the recipients that the client was told
// 250 for, no more and no less; and then says lines there. All of it goes in one write if it can.
//
// A session that is lost is replaced, and everything said again: nothing of this hands over a message.
func (s *session) exchange(ctx context.Context, lines [][]byte) (said outcome, err error) {
	const attempts = 3
	for n := range attempts {
		if n == 0 {
			s.dropForetold(lines)
			err = s.dial(ctx)
		} else {
			s.server.metrics.Replays.Add(1)
			err = s.redial(ctx)
		}
		if err != nil {
			return outcome{}, err
		}
		if said, err = s.recite(ctx, lines); err == nil {
			return said, nil
		}
		if refusesClient(err) {
			break
		}
		s.log().Warn("the backend was lost", "transaction", s.tx.envelope.ID, "error", err)
	}
	s.dropBackend()
	return outcome{}, err
}

// dropForetold gives up a backend that has heard DATA ahead, unless what it was told is what it would hear now.
func (s *session) dropForetold(lines [][]byte) {
	if s.backend == nil || !s.backend.Begun() {
		return
	}
	if len(lines) != 1 || s.link != linkIdle || len(s.tx.rcpts) > 0 || !s.backend.Foretold(s.tx.mail, lines[0]) {
		s.dropBackend()
	}
}

// utterance is a command line for a backend, and what it is to the transaction.
type utterance struct {
	line []byte
	kind utteranceKind
}

type utteranceKind uint8

const (
	sayReset utteranceKind = iota // forget what you know
	sayMail
	sayAgain // a recipient that the client was told 250 for
	sayNext  // something new
)

// script is what a backend's session has to hear before it hears lines, and those.
func (s *session) script(lines [][]byte) []utterance {
	script := make([]utterance, 0, 4)
	if s.link == linkStale {
		script = append(script, utterance{rsetLine, sayReset})
	}
	if s.link != linkOpen {
		script = append(script, utterance{s.tx.mail, sayMail})
		for _, rcpt := range s.tx.rcpts {
			script = append(script, utterance{rcpt, sayAgain})
		}
	}
	for _, line := range lines {
		script = append(script, utterance{line, sayNext})
	}
	return script
}

// recite is exchange with the session at hand.
func (s *session) recite(ctx context.Context, lines [][]byte) (said outcome, err error) {
	s.tx.backend = s.backend.Address()
	script := s.script(lines)
	claimed := len(script) == 2 && s.backend.Claim(script[0].line, script[1].line)
	if !claimed && s.backend.Disclaim() {
		s.link = linkStale
		script = s.script(lines)
	}
	s.link = linkStale
	for len(script) > 0 {
		part := script[:min(batch, len(script))]
		script = script[len(part):]
		for _, u := range part {
			if !claimed {
				s.backend.Queue(u.line)
			}
		}
		for _, u := range part {
			answer, err := s.backend.Reply(ctx)
			if err != nil {
				return said, err
			}
			if u.kind == sayMail {
				s.tx.mailReply = answer
			}
			switch {
			case said.refused: // the rest of the batch has no meaning
			case u.kind == sayNext:
				said.replies = append(said.replies, answer)
			case answer.Class() == 2:
			case u.kind == sayReset:
				return said, errRset
			default:
				said.refused, said.refusal = true, answer
			}
			if answer.Code == 421 { // its last word: the replies to the others will not come
				return said, nil
			}
		}
		if said.refused {
			return said, nil
		}
	}
	s.link = linkOpen
	return said, nil
}

var rsetLine = []byte("RSET")

// refusesClient tells a backend's word on this client from a failure.
func refusesClient(err error) bool {
	e, ok := errors.AsType[*backend.Error](err)
	return ok && e.Refused && e.Reply.Class() >= 4
}

// lossReply is what the client hears when no backend could be had or kept. It tells nothing about addresses behind us.
func (s *session) lossReply(err error) wire.Reply {
	if e, ok := errors.AsType[*backend.Error](err); ok && refusesClient(err) {
		return e.Reply
	}
	if s.extras().user != "" { // who has to sign in anew has to begin anew
		return s.failure(421, "4.4.1", "The mail server behind this one was lost, please connect again")
	}
	return s.failure(451, "4.4.1", "The mail server behind this one cannot be reached, please try again later")
}

// unexpected takes the place of a reply that has no meaning where it stands: a 2xx or 3xx that a client might take for
// an acceptance.
func (s *session) unexpected(r wire.Reply) wire.Reply {
	s.log().Error("the backend gave a reply that makes no sense there", "transaction", s.id(), "reply", r.String())
	s.dropBackend()
	return s.failure(451, "4.3.0", "The mail server behind this one is not in order, please try again later")
}
