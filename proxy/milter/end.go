package milter

import (
	"bytes"
	"slices"
	"strings"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
	"gatepost/policy"
	"gatepost/proxy/front"
	"gatepost/rules"
)

// leftToMTA is the note of a message that we have nothing against.
const leftToMTA = "left to the MTA, whose final reply a milter does not hear"

// heldByMTA is the note of a message in quarantine.
const heldByMTA = "in quarantine, in the MTA's own queue"

// endOfMessage judges a message that is complete, and answers. The frame may hold the last of the body.
func (s *session) endOfMessage(size int) error {
	if !s.inMessage() {
		s.misplaced("BODYEOB")
		return nil
	}
	s.closeHead()
	if err := s.receive(size); err != nil {
		return err
	}
	tx := s.tx
	s.server.metrics.Bytes.Add(tx.size)
	if tx.memory.Spills() {
		s.server.metrics.Spilled.Add(1)
	}
	if tx.leave {
		s.server.metrics.Skipped.Add(1)
	}
	if tx.fault.Code == 0 {
		tx.message.Complete()
		s.checkHeader()
	}
	if tx.fault.Code != 0 {
		return s.refuseMessage(tx.fault)
	}
	v, edits := s.gate.EndOfData(s.within(s.service().Limits.MessageBudget))
	s.lingerAtEnd(v.Delay)
	switch {
	case v.Action == rules.Discard:
		s.server.metrics.Discarded.Add(1)
		s.respond(milter.ActDiscard)
		return s.conclude(policy.Ending{Reply: rules.Reply{Code: 250}, Ours: true, Note: "discarded"})
	case v.Action == rules.Quarantine && s.agreed.Actions&milter.OptQuarantine != 0:
		s.server.metrics.Held.Add(1)
		s.edit(edits)
		s.hold(v.Rule)
		s.proceed()
		return s.conclude(policy.Ending{Reply: rules.Reply{Code: 250}, Ours: true, Note: heldByMTA})
	case stops(v):
		return s.refuseMessage(s.replyOf(v))
	}
	s.server.metrics.Accepted.Add(1)
	s.edit(edits)
	s.proceed() // and not ACCEPT, which means the same here, so that one answer has one meaning everywhere
	return s.conclude(policy.Ending{Reply: rules.Reply{Code: 250}, Note: leftToMTA})
}

// hold has the MTA keep the message in its own quarantine: Postfix's hold queue, sendmail's hf files. The client hears the
// MTA's 250.
func (s *session) hold(rule *rules.Rule) {
	s.out = wire.AppendTexts(s.out, byte(milter.ActQuarantine), "gatepost: rule "+printable(rule.Name))
}

func (s *session) refuseMessage(r rules.Reply) error {
	if r.Code/100 == 4 {
		s.server.metrics.Deferred.Add(1)
	} else {
		s.server.metrics.Refused.Add(1)
	}
	s.refuse(r)
	return s.conclude(policy.Ending{Reply: r, Ours: true})
}

// checkHeader refuses what the SMTP front end would refuse too.
func (s *session) checkHeader() {
	limits := &s.service().Limits
	header, err := s.tx.message.Header(s.within(limits.MessageBudget))
	if err != nil {
		s.Log().Error("a message cannot be read back", "transaction", s.tx.envelope.ID, "error", err)
		s.fail(s.sign(451, "4.3.0", "The message could not be kept, please try again later"))
		return
	}
	if fault, ok := front.HeaderFault(header, int(limits.HeaderSize), limits.Hops); ok {
		s.fail(s.sign(fault.Code, fault.Enhanced, fault.Text))
	}
}

// edit tells the MTA what to change. MTAs apply edits one by one and count what is left, so fields go from the last to
// the first, and before new ones come; and of the new ones, each is put above those that were put there before.
func (s *session) edit(e policy.Edits) {
	if len(e.Cut)+len(e.Insert) > 0 {
		header, err := s.tx.message.Header(s.conn.Base()) // it is there: this does not wait
		if err != nil {
			return
		}
		s.editHeader(header, e)
	}
	if e.Body != nil && s.agreed.Actions&milter.OptChangeBody != 0 {
		for chunk := range slices.Chunk(bytes.TrimPrefix(e.Body, []byte("\r\n")), maxNewChunk) {
			s.out = wire.Append(s.out, byte(milter.ActReplBody), chunk)
		}
	}
	s.insert(fieldsOf(e.Prepend), 0)
	s.readdress(e.Envelope)
}

// maxNewChunk is what every MTA takes for a piece of a new body.
const maxNewChunk = 65535

// editHeader deletes and inserts among the message's own fields, the last one first.
func (s *session) editHeader(h *filters.Header, e policy.Edits) {
	cut, insert, behind := e.Cut, e.Insert, []newField(nil)
	for len(cut)+len(insert) > 0 {
		if n := len(insert) - 1; n >= 0 && (len(cut) == 0 || insert[n].At > cut[len(cut)-1].Start) {
			place := slices.IndexFunc(h.Fields, func(f filters.Field) bool { return int64(f.Offset) >= insert[n].At })
			if fields := fieldsOf(insert[n].Text); place < 0 {
				behind = append(fields, behind...)
			} else {
				if place > 0 { // the MTA's own Received comes first, and is not shown to us
					place++
				}
				s.insert(fields, uint32(place))
			}
			insert = insert[:n]
			continue
		}
		deletion, ok := deletionOf(h, cut[len(cut)-1])
		if ok && s.agreed.Actions&milter.OptChangeHeader != 0 {
			s.out = deletion.AppendTo(s.out, milter.ActChangeHeader)
		}
		cut = cut[:len(cut)-1]
	}
	if s.agreed.Actions&milter.OptAddHeader == 0 {
		return
	}
	for _, field := range behind {
		s.out = wire.AppendTexts(s.out, byte(milter.ActAddHeader), field.name, s.newValue(field))
	}
}

// insert puts new fields before the one at index.
func (s *session) insert(fields []newField, index uint32) {
	if s.agreed.Actions&milter.OptAddHeader == 0 {
		return
	}
	for _, field := range slices.Backward(fields) {
		insertion := wire.HeaderEdit{Index: index, Name: field.name, Value: s.newValue(field)}
		s.out = insertion.AppendTo(s.out, milter.ActInsertHeader)
	}
}

// newValue is without the first blank where the MTA puts one there.
func (s *session) newValue(field newField) string {
	if s.has(milter.OptHeaderLeadingSpace) {
		return field.value
	}
	return strings.TrimPrefix(field.value, " ")
}

// deletionOf names a field as MTAs do: by its place among those of its name, from 1.
func deletionOf(h *filters.Header, span policy.Span) (deletion wire.HeaderEdit, ok bool) {
	at := slices.IndexFunc(h.Fields, func(f filters.Field) bool { return int64(f.Offset) == span.Start })
	if at < 0 || h.Fields[at].Name == "" {
		return wire.HeaderEdit{}, false
	}
	deletion.Name = h.Fields[at].Name
	for i := range h.Fields[:at+1] {
		if strings.EqualFold(h.Fields[i].Name, deletion.Name) {
			deletion.Index++
		}
	}
	return deletion, true
}

// newField is a field to be inserted. Its lines end with LF, as milters write them.
type newField struct{ name, value string }

// fieldsOf cuts complete fields apart.
func fieldsOf(block []byte) (fields []newField) {
	for line := range bytes.Lines(bytes.ReplaceAll(block, []byte("\r\n"), []byte("\n"))) {
		if (line[0] == ' ' || line[0] == '\t') && len(fields) > 0 {
			last := &fields[len(fields)-1]
			last.value += "\n" + strings.TrimSuffix(string(line), "\n")
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		fields = append(fields, newField{name, value})
	}
	return fields
}
