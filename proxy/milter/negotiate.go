package milter

import (
	"errors"

	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
)

const (
	newest = 6
	oldest = 2
)

// headerActions: fields are inserted on top (which ADDHDRS allows) and deleted.
const headerActions = milter.OptAddHeader | milter.OptChangeHeader

// wantedActions is what we do to messages.
const wantedActions = headerActions | milter.OptQuarantine | envelopeActions

// envelopeActions is what our own milters may ask for.
const envelopeActions = milter.OptAddRcpt | milter.OptAddRcptWithArgs | milter.OptRemoveRcpt | milter.OptChangeFrom | milter.OptChangeBody

var errTooOld = errors.New("the MTA's milter protocol is older than version 2")

// negotiate takes of the MTA's offer what serves us. What was not offered must not be answered: MTAs hang up then.
func (s *session) negotiate(data []byte) error {
	offer, err := wire.ParseNegotiation(data)
	if err != nil {
		return err
	}
	if offer.Version < oldest {
		return errTooOld
	}
	want := milter.OptNoUnknown | // commands that the MTA does not know are its own affair
		milter.OptRcptRej | // recipients that it refuses count for rate limits
		milter.OptHeaderLeadingSpace | // fields are to be what they were: signatures cover them
		milter.OptNoHeaderReply | milter.OptNoEOHReply | // nothing is decided there: 10 to 30 round trips less a message
		milter.OptSkip
	if !s.service().Engine.ReadsBodies() {
		want |= milter.OptNoBody
	}
	s.agreed = wire.Negotiation{
		Version:  min(offer.Version, newest),
		Actions:  offer.Actions & wantedActions,
		Protocol: offer.Protocol & want,
	}
	if offer.Actions&milter.OptSetSymList != 0 {
		s.agreed.Actions |= milter.OptSetSymList
		s.agreed.Macros = wanted
	}
	if missing := headerActions &^ offer.Actions; missing != 0 {
		s.server.log.Warn("the MTA does not let a milter change headers: Authentication-Results are neither added nor removed", "milter", s.conn.Entry.Address)
	}
	s.negotiated = true
	s.out = s.agreed.AppendTo(s.out)
	return nil
}

func (s *session) has(option milter.OptProtocol) bool { return s.agreed.Protocol&option != 0 }
