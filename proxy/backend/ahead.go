package backend

import (
	"bytes"
	"slices"
)

// maxAhead bounds what is said with a message, in bytes.
const maxAhead = 2 << 10

// saysAhead tells whether p.Next goes with the message: in one write, where commands may follow the end of a message
// (RFC 2920, 3.1) and nobody counts transactions.
func (c *Conn) saysAhead(p Parts) bool {
	length := 0
	for _, line := range p.Next {
		if bytes.ContainsAny(line, "\r\n\x00") {
			return false
		}
		length += len(line) + 2
	}
	return length > 0 && length <= maxAhead && p.Size <= blockSize/2 && c.pipelining && c.extensions.Limits.Mail == 0
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

// Claim tells whether lines are just what was said with the latest message: then they need not be queued, and [Conn.Reply]
// returns the answers to them. Else nothing is changed.
func (c *Conn) Claim(lines ...[]byte) bool {
	if len(c.ahead) == 0 || !slices.EqualFunc(c.ahead, lines, bytes.Equal) {
		return false
	}
	for i := range c.commands {
		c.commands[i].step = callers
	}
	c.ahead = nil
	return true
}

// Disclaim tells whether something was said with the latest message that was not claimed: the answers are passed over, and
// RSET is due.
func (c *Conn) Disclaim() bool {
	said := len(c.ahead) > 0
	c.ahead = nil
	return said
}
