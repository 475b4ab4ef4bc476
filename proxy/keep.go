package proxy

import (
	"errors"
	"io"
	"math"
	"net/netip"

	"gatepost/policy"
	"gatepost/proxy/quarantine"
	"gatepost/proxy/wire"
	"gatepost/rules"
)

// Keeper takes messages that rules keep from being delivered; see [quarantine.Quarantine.Keep]. It is safe for concurrent
// use.
type Keeper interface {
	Keep(e *quarantine.Entry, body io.WriterTo, size int64) error
}

// quarantine takes responsibility for a message, or does not: there is no 250 before it is safe.
func (s *session) quarantine(v policy.Verdict, edits policy.Edits) {
	if err := s.preserve(v, edits); err != nil {
		s.answer(s.failure(452, "4.3.1", "No room for this message now, please try again later"),
			policy.Ending{Ours: true, Note: "not kept: " + err.Error()})
		return
	}
	s.server.metrics.Kept.Add(1)
	s.answer(wire.NewReply(250, "2.0.0", v.Reply.Text), policy.Ending{Ours: true, Note: policy.NoteKept, Kept: s.tx.envelope.ID})
}

// keepCopy keeps what is refused. The reply does not depend on it: the sender is told the truth either way.
func (s *session) keepCopy(v policy.Verdict, edits policy.Edits, e *policy.Ending) {
	if err := s.preserve(v, edits); err != nil {
		e.Note = "no copy was kept: " + err.Error()
		s.log().Warn("no copy of a refused message was kept", "transaction", s.tx.envelope.ID, "error", err)
		return
	}
	e.Note, e.Kept = policy.NoteCopied, s.tx.envelope.ID
}

var errNoQuarantine = errors.New("there is no quarantine")

// preserve hands the message to quarantine, with all that a later delivery needs. A message that cannot be read back from its
// own file is not kept either.
func (s *session) preserve(v policy.Verdict, edits policy.Edits) error {
	if s.service.Quarantine == nil {
		return errNoQuarantine
	}
	if err := s.readdress(edits.Envelope); err != nil && !errors.Is(err, errNobodyLeft) { // then it is kept for all of them
		return err
	}
	e, err := s.keptEntry(v, edits)
	if err != nil {
		return err
	}
	body := excerpt{message: s.tx.incoming.message}
	if len(edits.Insert) > 0 || edits.Body != nil { // what others have changed is kept as they did
		body.edits, e.Cut = edits, nil
	}
	return s.service.Quarantine.Keep(e, body, body.size())
}

func (s *session) keptEntry(v policy.Verdict, edits policy.Edits) (*quarantine.Entry, error) {
	ctx := s.budget(s.service.Limits.EnvelopeBudget)
	client := s.client(ctx)
	facts := s.gate.Facts()
	sender, _, err := wire.ParseMail(string(s.tx.mail[len("MAIL "):]))
	if err != nil {
		return nil, err
	}
	e := &quarantine.Entry{
		ID:    s.tx.envelope.ID,
		Copy:  v.Action == rules.Reject,
		Rule:  quarantine.Rule{Name: v.Rule.Name, File: v.Rule.Pos.File, Line: v.Rule.Pos.Line},
		Reply: wire.NewReply(v.Reply.Code, v.Reply.Enhanced, v.Reply.Text).String(),
		Client: quarantine.Client{Address: client.Addr, Local: client.Local, Name: client.Name, ReverseName: client.ReverseName,
			Helo: client.Helo, Extended: client.Extended},
		ReversePath: sender.Address,
		Params:      s.tx.envelope.Params,
		Facts:       factsToKeep(facts),
		Score:       facts.Score(),
		Prepend:     s.onTop(edits),
		Cut:         edits.Cut,
	}
	if user := s.extras().user; user != unknownUser {
		e.Client.User = user
	}
	for _, line := range s.tx.rcpts {
		path, params, err := wire.ParseRcpt(string(line[len("RCPT "):]))
		if err != nil {
			return nil, err
		}
		e.Recipients = append(e.Recipients, quarantine.Recipient{Address: path.Address, Params: params})
	}
	header, err := s.tx.incoming.message.Header(ctx)
	if err != nil {
		return nil, err
	}
	for _, field := range []struct {
		name  string
		value *string
	}{{"From", &e.From}, {"Subject", &e.Subject}} {
		if values := header.Values(field.name); len(values) > 0 {
			*field.value = values[0]
		}
	}
	return e, nil
}

// factsToKeep are all facts that are known, in types that JSON has.
func factsToKeep(f *rules.Facts) map[string]any {
	kept := map[string]any{}
	f.All(func(name string, value any) {
		switch v := value.(type) {
		case netip.Addr:
			kept[name] = v.String()
		case float64:
			if !math.IsNaN(v) && !math.IsInf(v, 0) {
				kept[name] = v
			}
		case bool, string, []string:
			kept[name] = v
		}
	})
	return kept
}
