package resolver

import (
	"encoding/binary"
	"strings"
)

const (
	headerSize = 12
	udpSize    = 1232 // announced by EDNS0: fits into every path without fragments (DNS flag day 2020)

	maxName = 253 // characters: 255 octets on the wire

	flagResponse  = 1 << 15
	flagTruncated = 1 << 9
	flagRecurse   = 1 << 8
	maskOpcode    = 0xf << 11

	classIN = 1
	typeOPT = 41
)

// askable tells whether a name in lower case without final dot fits into a query (RFC 1035, 2.3.4). Control characters
// and what is not ASCII never get on the wire: no such name can be meant.
func askable(name string) bool {
	if len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	for i := range len(name) {
		if name[i] < ' ' || name[i] > '~' {
			return false
		}
	}
	return true
}

// query is a packed question (RFC 1035, 4.1) with an EDNS0 record (RFC 6891). Names are packed here and not by the
// library, whose names have an escape syntax: a backslash in a sender's local part must stay a backslash.
type query struct {
	message  []byte
	question int // end of the question in message
}

func newQuery(name string, qtype uint16) query {
	m := make([]byte, 2, 2+headerSize+len(name)+2+4+11)
	m = binary.BigEndian.AppendUint16(m, flagRecurse)
	m = append(m, 0, 1, 0, 0, 0, 0, 0, 1) // one question, one additional record
	for label := range strings.SplitSeq(name, ".") {
		m = append(m, byte(len(label)))
		m = append(m, label...)
	}
	m = append(m, 0)
	m = binary.BigEndian.AppendUint16(m, qtype)
	m = binary.BigEndian.AppendUint16(m, classIN)
	question := len(m)
	m = append(m, 0)
	m = binary.BigEndian.AppendUint16(m, typeOPT)
	m = binary.BigEndian.AppendUint16(m, udpSize)
	m = append(m, 0, 0, 0, 0, 0, 0)
	return query{message: m, question: question}
}

// plain is q without EDNS0.
func (q query) plain() query {
	m := append([]byte(nil), q.message[:q.question]...)
	m[headerSize-1] = 0 // no additional records
	return query{message: m, question: q.question}
}

func (q query) setID(id uint16) { binary.BigEndian.PutUint16(q.message, id) }

// answeredBy tells whether reply is the answer to q: same id, one question, and that one word for word but for the
// case of letters (RFC 5452, 9.1).
func (q query) answeredBy(reply []byte) bool {
	if len(reply) < q.question {
		return false
	}
	if binary.BigEndian.Uint16(reply) != binary.BigEndian.Uint16(q.message) {
		return false
	}
	flags := binary.BigEndian.Uint16(reply[2:])
	if flags&flagResponse == 0 || flags&maskOpcode != 0 || binary.BigEndian.Uint16(reply[4:]) != 1 {
		return false
	}
	name := q.question - 4
	for i := headerSize; i < name; i++ {
		if lower(reply[i]) != lower(q.message[i]) {
			return false
		}
	}
	return string(reply[name:q.question]) == string(q.message[name:q.question])
}

// lower also sees the lengths of labels, which are never letters: they are below 64.
func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

func truncated(reply []byte) bool {
	return binary.BigEndian.Uint16(reply[2:])&flagTruncated != 0
}
