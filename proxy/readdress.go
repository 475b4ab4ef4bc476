package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/wire"
)

// errNobodyLeft says that filters have taken all recipients away.
var errNobodyLeft = errors.New("filters have deleted all recipients")

// readdress makes the transaction the one that filters want: with another sender, with recipients more or fewer.
//
// That is possible up to here: the backend has been told MAIL and recipients, but nothing of the message. It is told the
// transaction anew, all of it and nothing else, and the message goes there only if it takes all of that. A recipient that it
// refuses makes the client's reply a 451: the message went to nobody, so that nobody misses it, and nobody gets it twice when
// the client tries again. To deliver to the others alone would lose the one, and say 250 for it.
func (s *session) readdress(edits []filters.EnvelopeEdit) error {
	if len(edits) == 0 {
		return nil
	}
	tx := s.tx
	sender, rcpts := tx.mail, slices.Clone(tx.rcpts)
	var done []string
	for i := range edits {
		e := &edits[i]
		at := indexOfRecipient(rcpts, e.Address)
		switch {
		case e.Kind == filters.ChangeSender:
			sender = wire.AppendParams([]byte("MAIL FROM:<"+e.Address+">"), tx.envelope.Params)
			if path, _, err := wire.ParseMail(string(sender[len("MAIL "):])); err != nil || path.Address != e.Address {
				return fmt.Errorf("a filter's new sender %q is no address", e.Address)
			}
			done = append(done, "from <"+e.Address+">")
		case e.Kind == filters.AddRecipient && at < 0:
			line := wire.AppendParams([]byte("RCPT TO:<"+e.Address+">"), s.passable(e.Params))
			if path, _, err := wire.ParseRcpt(string(line[len("RCPT "):])); err != nil || path.Address != e.Address {
				return fmt.Errorf("a filter's new recipient %q is no address", e.Address)
			}
			rcpts, done = append(rcpts, line), append(done, "to <"+e.Address+"> too")
		case e.Kind == filters.DeleteRecipient && at >= 0:
			rcpts, done = slices.Delete(rcpts, at, at+1), append(done, "not to <"+e.Address+">")
		}
	}
	switch {
	case len(rcpts) == 0:
		return errNobodyLeft
	case len(done) == 0:
		return nil
	}
	tx.mail, tx.rcpts = sender, rcpts
	tx.readdressed = shortened(done)
	if s.link == linkOpen {
		s.link = linkStale
	}
	return nil
}

// shortened is what was done, for the record.
func shortened(done []string) string {
	const most = 10
	if more := len(done) - most; more > 0 {
		done = append(done[:most:most], fmt.Sprintf("%d more changes", more))
	}
	return "readdressed by filters: " + strings.Join(done, ", ")
}

// passable are the parameters that the backend knows. Those of RFC 3461 say how to report, which filters can do without.
func (s *session) passable(params []filters.Param) []filters.Param {
	return slices.DeleteFunc(slices.Clone(params), func(p filters.Param) bool {
		return s.offered == nil || !s.offersRcpt(strings.ToUpper(p.Key))
	})
}

// indexOfRecipient finds an address among RCPT commands, or returns -1. Case does not matter: hardly any server tells
// joe from Joe, and one who gets a message twice is worse off than one who gets another's.
func indexOfRecipient(lines [][]byte, address string) int {
	return slices.IndexFunc(lines, func(line []byte) bool {
		path, _, err := wire.ParseRcpt(string(line[len("RCPT "):]))
		return err == nil && strings.EqualFold(path.Address, address)
	})
}

// unaddressed answers a message that cannot go where filters want it.
func (s *session) unaddressed(err error) {
	if errors.Is(err, errNobodyLeft) {
		s.answer(s.failure(550, "5.7.1", "The message is not delivered to any of its recipients"), policy.Ending{Ours: true, Note: err.Error()})
		return
	}
	s.log().Error("a filter wants an envelope that cannot be", "transaction", s.tx.envelope.ID, "error", err)
	s.answer(s.failure(451, "4.3.0", "The message cannot be readdressed, please try again later"), policy.Ending{Ours: true, Note: err.Error()})
}
