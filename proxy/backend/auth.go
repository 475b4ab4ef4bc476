package backend

import (
	"context"
	"slices"
	"strings"

	"gatepost/proxy/wire"
)

// maxMechanisms bounds the list behind AUTH.
const maxMechanisms = 32

// parseMechanisms reads what stands behind AUTH (RFC 4954, 3).
func parseMechanisms(args string) []string {
	var list []string
	for _, name := range strings.Fields(strings.ToUpper(args)) {
		if len(list) < maxMechanisms && relayable(name) && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// relayable tells whether a SASL mechanism works through somebody who only passes it on. EXTERNAL and the PLUS variants
// refer to the TLS connection, of which there are two. GSSAPI, GS2 and DIGEST-MD5 can go over to a protection of their own,
// behind which commands cannot be read.
func relayable(mechanism string) bool {
	switch {
	case len(mechanism) > 20, strings.Trim(mechanism, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "": // RFC 4422, 3.1
		return false
	case mechanism == "EXTERNAL", mechanism == "GSSAPI", mechanism == "GSS-SPNEGO", mechanism == "DIGEST-MD5",
		strings.HasPrefix(mechanism, "GS2-"), strings.HasSuffix(mechanism, "-PLUS"):
		return false
	}
	return true
}

// Ready waits until the backend has answered the hand-over: [Conn.Extensions] is what it offers to this client then.
func (c *Conn) Ready(ctx context.Context) error {
	if c.link == nil {
		return c.fail("EHLO", errReleased)
	}
	return c.settle(ctx)
}

// Converse sends a line of an AUTH exchange (RFC 4954, 4), the command itself or a response, and waits for the reply. The
// line is a secret: no part of it gets into errors or logs.
func (c *Conn) Converse(ctx context.Context, line []byte) (wire.Reply, error) {
	if c.awaited() {
		return wire.Reply{}, c.fail("AUTH", errUnread)
	}
	c.queue(line, callers)
	if n := len(c.commands); n > 0 {
		c.commands[n-1].verb = [8]byte{'A', 'U', 'T', 'H'}
	}
	return c.Reply(ctx)
}
