package faulttest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/policy"
	"gatepost/proxy/backend/backendtest"
)

// sending is a message as its client sees it. It is written by the client alone, and read when that is done.
type sending struct {
	sender     string // reverse-path, one for each sending
	recipients []string
	message    []byte // as it shall arrive

	mail    int // reply codes; 0: none was seen
	rcpts   []int
	final   int
	queueID string

	ahead    bool // a command went along with the message
	followed bool // the client gave a command when it had read the final reply
	heard    bool // and was answered
}

// stored is a message as a backend has it.
type stored struct {
	id         string
	recipients []string
}

// recorded is what counts of a transaction's record.
type recorded struct {
	code     int
	ours     bool
	note     string
	accepted []string

	confirmed int // how often
}

// ledger knows what clients sent, what backends stored, and what was recorded, by reverse-path.
type ledger struct {
	foreign bool // others send, too; set before anybody does

	mu       sync.Mutex // guards all below
	sendings map[string]*sending
	messages map[string][]stored
	records  map[string][]*recorded
	byID     map[string]*recorded
	latest   *policy.Record // of a transaction
	sessions int64
	wrong    []error // found on the way
}

func (l *ledger) expect(s *sending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sendings == nil {
		l.sendings = map[string]*sending{}
	}
	l.sendings[s.sender] = s
}

var errUnexpected = errors.New("nobody has sent that")

// deliver takes a message for a backend, and compares it with what was sent.
func (l *ledger) deliver(m *backendtest.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.messages == nil {
		l.messages = map[string][]stored{}
	}
	sent := l.sendings[m.Sender]
	if sent == nil {
		l.wrong = append(l.wrong, fmt.Errorf("stored, but never sent: %q %q", m.Sender, m.Data))
		return errUnexpected
	}
	if err := sameBelowTrace(m.Data, sent.message); err != nil {
		l.wrong = append(l.wrong, fmt.Errorf("%s: %w", m.Sender, err))
	}
	l.messages[m.Sender] = append(l.messages[m.Sender], stored{id: m.ID, recipients: m.Recipients})
	return nil
}

// sameBelowTrace tells whether got is want with nothing but header fields of ours on top.
func sameBelowTrace(got, want []byte) error {
	top, found := bytes.CutSuffix(got, want)
	if !found {
		return fmt.Errorf("stored are %d bytes, sent were %d, and the ends differ: …%q, …%q", len(got), len(want), tail(got), tail(want))
	}
	for len(top) > 0 {
		line, rest, found := bytes.Cut(top, []byte("\r\n"))
		folded := bytes.HasPrefix(line, []byte("\t")) || bytes.HasPrefix(line, []byte(" "))
		ours := bytes.HasPrefix(line, []byte("Authentication-Results: mx.test")) || bytes.HasPrefix(line, []byte("Received: from ")) ||
			bytes.HasPrefix(line, []byte("X-Marked: "))
		if !found || !folded && !ours {
			return fmt.Errorf("on top of the message there is %q", line)
		}
		top = rest
	}
	return nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-40):] }

// Record implements policy.Recorder.
func (l *ledger) Record(r *policy.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Kind == policy.SessionRecord {
		l.sessions++
		return
	}
	if l.records == nil {
		l.records, l.byID = map[string][]*recorded{}, map[string]*recorded{}
	}
	l.latest = r
	kept := &recorded{code: r.Ending.Reply.Code, ours: r.Ending.Ours, note: r.Ending.Note}
	for _, rcpt := range r.Recipients {
		if rcpt.Reply.Code/100 == 2 {
			kept.accepted = append(kept.accepted, rcpt.Address)
		}
	}
	l.records[r.Envelope.ReversePath] = append(l.records[r.Envelope.ReversePath], kept)
	l.byID[r.ID] = kept
}

// Confirmed implements policy.Confirmer.
func (l *ledger) Confirmed(id string, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r := l.byID[id]; {
	case r == nil:
		l.wrong = append(l.wrong, fmt.Errorf("confirmed before it was recorded: %s", id))
	case r.code == 0:
		l.wrong = append(l.wrong, fmt.Errorf("confirmed, and there was no final reply: %s", id))
	default:
		r.confirmed++
	}
}

// lastID is the ID of the latest transaction, lastEnding how it came out.
func (l *ledger) lastID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest.ID
}

func (l *ledger) lastEnding() policy.Ending {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest.Ending
}

func (l *ledger) sessionRecords() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sessions
}

// acknowledged checks, as soon as the client has gone, that what it was told 2xx for is stored.
func (l *ledger) acknowledged(s *sending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.final/100 != 2 {
		return nil
	}
	got := l.messages[s.sender]
	if len(got) != 1 {
		return fmt.Errorf("%s: the client was told %d, and the message is stored %d times", s.sender, s.final, len(got))
	}
	if got[0].id != s.queueID {
		return fmt.Errorf("%s: the client was told the queue id %q, which is %q", s.sender, s.queueID, got[0].id)
	}
	return nil
}

// audit checks everything at the end. It returns the first few contradictions.
func (l *ledger) audit() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	wrong := l.wrong
	for _, s := range l.sendings {
		if err := l.auditOne(s); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w; sent %+v, stored %+v, recorded %s", s.sender, err, s.summary(), l.messages[s.sender], l.told(s.sender)))
		}
	}
	for sender := range l.records {
		if l.sendings[sender] == nil && !l.foreign {
			wrong = append(wrong, fmt.Errorf("recorded, but never sent: %q", sender))
		}
	}
	return wrong[:min(len(wrong), 5)]
}

func (s *sending) summary() string {
	return fmt.Sprintf("MAIL %d, RCPT %v, final %d %s, then gave a command: %t, was answered: %t", s.mail, s.rcpts, s.final, s.queueID, s.followed, s.heard)
}

func (l *ledger) told(sender string) (text string) {
	for _, r := range l.records[sender] {
		text += fmt.Sprintf("%+v ", *r)
	}
	return text
}

// accepted tells whether some recipient was: else the reply to the message is not about the message.
func (s *sending) accepted() bool { return slices.Contains(s.rcpts, 250) }

func (l *ledger) auditOne(s *sending) error {
	messages, records := l.messages[s.sender], l.records[s.sender]
	switch {
	case len(messages) > 1:
		return fmt.Errorf("stored %d times", len(messages))
	case len(records) > 1, len(records) == 0 && (s.mail != 0 && s.mail != 421 || len(messages) > 0):
		return fmt.Errorf("recorded %d times", len(records))
	case len(records) == 0:
		return nil
	}
	r := records[0]
	if err := s.sameConfirmation(r); err != nil {
		return err
	}
	if s.accepted() && s.final != 0 && s.final != 421 && s.final != r.code {
		return fmt.Errorf("the client was told %d and %d is recorded", s.final, r.code)
	}
	if r.code/100 == 2 && !r.ours && len(messages) == 0 {
		return fmt.Errorf("%d is recorded and nothing is stored", r.code)
	}
	if len(messages) == 1 {
		if err := s.sameRecipients(messages[0], r); err != nil {
			return err
		}
		if lost := r.code == 451 && strings.Contains(r.note, "backend lost after the end"); r.code/100 != 2 && !lost {
			return fmt.Errorf("stored, and recorded is %d %q", r.code, r.note)
		}
	}
	return nil
}

// sameConfirmation: whoever was answered behind the final reply has confirmed it, and nobody else can have than one who gave
// a command. Where that came along with the message it confirms if it was so late on its way that the reply was before it.
func (s *sending) sameConfirmation(r *recorded) error {
	switch {
	case r.confirmed > 1:
		return fmt.Errorf("confirmed %d times", r.confirmed)
	case r.confirmed == 1 && !s.followed && !s.ahead:
		return errors.New("confirmed by a client that gave no command")
	case r.confirmed == 0 && s.heard && s.accepted() && s.final == r.code:
		return errors.New("not confirmed by a client that was answered since")
	}
	return nil
}

// sameRecipients: those to whom a backend delivers are those that the record accepts, and no others than the client was
// told.
func (s *sending) sameRecipients(m stored, r *recorded) error {
	if !slices.Equal(m.recipients, r.accepted) {
		return fmt.Errorf("stored for %v, accepted were %v", m.recipients, r.accepted)
	}
	for i, code := range s.rcpts {
		if has := slices.Contains(m.recipients, s.recipients[i]); code != 0 && has != (code/100 == 2) {
			return fmt.Errorf("%s was answered %d, and stored is for %v", s.recipients[i], code, m.recipients)
		}
	}
	return nil
}
