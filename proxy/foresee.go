package proxy

import (
	"bytes"

	"gatepost/proxy/wire"
)

// foresee returns MAIL and RCPT for the backend of the transaction that the client has sent behind the message, if it has one
// recipient, and nothing here can refuse it: the backend may hear them with the message. RFC 2920, 3.1 allows a client that
// pipelines just that. A client with a queue then waits once for each message instead of twice. When its commands
// come to their turn, they are obeyed as ever; what was said and is not wanted then is reset.
//
// With backend.eager DATA goes along where the client has sent it, for a backend without CHUNKING. That cannot be reset: if
// the next message is not wanted, its connection is given up.
func (s *session) foresee() [][]byte {
	if s.over || s.listen.Submission || s.mta().Ready() != nil {
		return nil
	}
	var lines [3][]byte
	for i, rest := 0, s.b.unread(); i < len(lines); i++ {
		line, n, err := wire.NextLine(rest, s.lineLimit())
		if err != nil {
			return nil
		}
		lines[i], rest = line, rest[n:]
	}
	if startsRcpt(lines[2]) {
		return nil
	}
	mail, rcpt := wire.ParseCommand(lines[0]), wire.ParseCommand(lines[1])
	if mail.Verb != wire.MAIL || rcpt.Verb != wire.RCPT {
		return nil
	}
	from, fromParams, err := wire.ParseMail(mail.Arg)
	if err != nil {
		return nil
	}
	if _, problem := s.checkMail(from, fromParams); problem != nil {
		return nil
	}
	to, toParams, err := wire.ParseRcpt(rcpt.Arg)
	if err != nil || s.checkRcpt(to, toParams) != nil || !s.gate.Foreknown(to.Address) {
		return nil
	}
	next := [][]byte{mailLine(from, fromParams), rcptLine(to, toParams)}
	if s.mta().Eager() && bytes.EqualFold(lines[2], dataLine) {
		next = append(next, dataLine)
	}
	return next
}

var dataLine = []byte("DATA")

func startsRcpt(line []byte) bool { return len(line) > 5 && bytes.EqualFold(line[:5], []byte("RCPT ")) }
