package milter

import (
	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

// readdress tells the MTA whom the message is from and for, as our own filters want it. What the MTA makes of a recipient
// that it cannot deliver to is its own affair: it has taken the message.
func (s *session) readdress(edits []filters.EnvelopeEdit) {
	for i := range edits {
		e := &edits[i]
		code, needs, texts := milter.ActChangeFrom, milter.OptChangeFrom, []string{"<" + e.Address + ">"}
		switch e.Kind {
		case filters.AddRecipient:
			code, needs = milter.ActAddRcpt, milter.OptAddRcpt
			if len(e.Params) > 0 && s.agreed.Actions&milter.OptAddRcptWithArgs != 0 {
				code, needs = milter.ModifyActCode(wire.ActAddRcptPar), milter.OptAddRcptWithArgs
				texts = append(texts, paramsText(e.Params))
			}
		case filters.DeleteRecipient:
			code, needs = milter.ActDelRcpt, milter.OptRemoveRcpt
		}
		if s.agreed.Actions&needs == 0 {
			s.Log().Warn("the MTA does not let a milter do this", "transaction", s.tx.envelope.ID, "action", string(rune(code)), "address", e.Address)
			continue
		}
		s.out = wire.AppendTexts(s.out, byte(code), texts...)
	}
}

func paramsText(params []filters.Param) (text string) {
	for i, p := range params {
		if i > 0 {
			text += " "
		}
		text += p.Key
		if p.HasValue {
			text += "=" + p.Value
		}
	}
	return text
}
