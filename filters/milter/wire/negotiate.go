package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"

	"github.com/emersion/go-milter"
)

// Negotiation is the data of OPTNEG, which both ends send: the MTA's offer first, and what the milter takes of it.
type Negotiation struct {
	Version  uint32
	Actions  milter.OptAction
	Protocol milter.OptProtocol
	Macros   []MacroRequest // of the milter's answer, if the MTA offers OptSetSymList
}

// MacroRequest names the macros that a milter wants at a stage: single characters, or longer names in braces.
type MacroRequest struct {
	Stage milter.Stage
	Names []string
}

var errNegotiation = errors.New("milter: the negotiation is malformed")

// ParseNegotiation reads the data of OPTNEG.
func ParseNegotiation(data []byte) (Negotiation, error) {
	if len(data) < 12 {
		return Negotiation{}, errNegotiation
	}
	n := Negotiation{
		Version:  binary.BigEndian.Uint32(data),
		Actions:  milter.OptAction(binary.BigEndian.Uint32(data[4:])),
		Protocol: milter.OptProtocol(binary.BigEndian.Uint32(data[8:])),
	}
	for rest := data[12:]; len(rest) > 0; {
		if len(rest) < 5 || len(n.Macros) > int(milter.StageEOH) {
			return Negotiation{}, errNegotiation
		}
		names, after, found := bytes.Cut(rest[4:], nul)
		if !found {
			return Negotiation{}, errNegotiation
		}
		n.Macros = append(n.Macros, MacroRequest{milter.Stage(binary.BigEndian.Uint32(rest)), strings.Fields(string(names))})
		rest = after
	}
	return n, nil
}

// AppendTo appends the frame.
func (n *Negotiation) AppendTo(dst []byte) []byte {
	dst, start := begin(dst, byte(milter.CodeOptNeg))
	dst = binary.BigEndian.AppendUint32(dst, n.Version)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n.Actions))
	dst = binary.BigEndian.AppendUint32(dst, uint32(n.Protocol))
	for _, m := range n.Macros {
		dst = binary.BigEndian.AppendUint32(dst, uint32(m.Stage))
		dst = append(append(dst, strings.Join(m.Names, " ")...), 0)
	}
	return finish(dst, start)
}
