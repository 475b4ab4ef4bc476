package backend

import (
	"bytes"
	"slices"
)

// maxAhead bounds what is said with a message, in bytes.
const maxAhead = 2 << 10

// following is what of p.Next goes with the message: in one write, where commands may follow the end of a message (RFC
// 2920, 3.1) and nobody counts transactions. DATA is of use where there is no BDAT.
func (c *Conn) following(p Parts) [][]byte {
	next, length := p.Next, 0
	if begins(next) && c.extensions.Chunking {
		next = next[:len(next)-1]
	}
	for _, line := range next {
		if bytes.ContainsAny(line, "\r\n\x00") {
			return nil
		}
		length += len(line) + 2
	}
	if length > maxAhead || p.Size > blockSize/2 || !c.pipelining || c.extensions.Limits.Mail > 0 {
		return nil
	}
	return next
}

// begins tells whether lines end with DATA.
func begins(lines [][]byte) bool {
	return len(lines) > 0 && commandOf(lines[len(lines)-1], ahead).is("DATA")
}

// saidAhead takes note that p.Next left with a message that was answered.
func (c *Conn) saidAhead(p Parts) {
	for _, line := range p.Next {
		k := commandOf(line, ahead)
		c.commands = append(c.commands, k)
		c.transaction = c.transaction || k.is("MAIL")
		c.flying += len(line) + 2
	}
	c.sent, c.ahead = len(c.commands), p.Next
}

// Foretold tells whether lines are just what was said with the latest message, but for DATA.
func (c *Conn) Foretold(lines ...[]byte) bool {
	said := c.ahead
	if begins(said) {
		said = said[:len(said)-1]
	}
	return len(said) > 0 && slices.EqualFunc(said, lines, bytes.Equal)
}

// Claim tells whether lines were [Conn.Foretold]: then they need not be queued, and [Conn.Reply] returns the answers to
// them. Else nothing is changed.
func (c *Conn) Claim(lines ...[]byte) bool {
	if !c.Foretold(lines...) {
		return false
	}
	for i := range c.commands {
		c.commands[i].step = callers
	}
	c.ahead = nil
	return true
}

// Begun tells whether the backend has heard DATA ahead: it can get the message of the transaction that was foretold, and
// nothing else. Release and Close hang up on it.
func (c *Conn) Begun() bool {
	return len(c.commands) > 0 && c.commands[len(c.commands)-1].is("DATA")
}

// Disclaim tells whether something was said with the latest message that was not claimed: the answers are passed over, and
// RSET is due.
func (c *Conn) Disclaim() bool {
	said := len(c.ahead) > 0
	c.ahead = nil
	return said
}
