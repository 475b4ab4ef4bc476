package backend

import (
	"net/netip"
	"slices"
	"strconv"

	"gatepost/proxy/wire"
)

// Client is what is handed over to a backend.
type Client struct {
	Addr  netip.AddrPort
	Local netip.AddrPort // the address that it connected to
	Name  string         // its verified name, or empty
	// ReverseName is the name that its address has in the DNS, verified or not; [Unavailable] if it is known to have none;
	// empty: Name, if there is one, else nobody knows.
	ReverseName string
	Helo        string // the argument of its EHLO or HELO, as sent
	Extended    bool   // EHLO rather than HELO
	Login       string // authenticated user, or empty
	// Promised is what the client was told in the answer to EHLO, if any: a backend that offers less of what a message may
	// need is passed over.
	Promised *Extensions
}

const (
	maxCommandLine = 512 // RFC 5321, 4.5.3.1.4, CRLF included; Postfix's XCLIENT_README binds XCLIENT to it
	maxXclientAttr = 255 // Postfix answers 501 to more, in decoded bytes; we count encoded ones
	unknown        = "unknown"
)

// Unavailable is the value of an XCLIENT attribute that says that there is none.
const Unavailable = "[UNAVAILABLE]"

// appendXclient writes the command line without CRLF. Attributes that are not sent keep the value of the client before,
// or of the proxy; so each attribute that the backend offers and that we know of is sent, unknown ones as unavailable.
func appendXclient(dst []byte, c Client, offered []string) []byte {
	start := len(dst)
	dst = append(dst, "XCLIENT NAME="...)
	dst = appendAttr(dst, c.Name)
	dst = append(dst, " ADDR="...)
	dst = appendXclientAddr(dst, c.Addr.Addr())
	if slices.Contains(offered, "PORT") {
		dst = append(dst, " PORT="...)
		dst = strconv.AppendUint(dst, uint64(c.Addr.Port()), 10)
	}
	if slices.Contains(offered, "PROTO") {
		dst = append(dst, " PROTO="...)
		if c.Extended {
			dst = append(dst, 'E')
		}
		dst = append(dst, "SMTP"...)
	}
	if slices.Contains(offered, "DESTADDR") {
		dst = append(dst, " DESTADDR="...)
		dst = appendXclientAddr(dst, c.Local.Addr())
	}
	if slices.Contains(offered, "DESTPORT") {
		dst = append(dst, " DESTPORT="...)
		if c.Local.IsValid() {
			dst = strconv.AppendUint(dst, uint64(c.Local.Port()), 10)
		} else {
			dst = append(dst, Unavailable...)
		}
	}
	// These come last: what is too long for the line costs nothing else.
	if c.Login != "" && slices.Contains(offered, "LOGIN") {
		dst = appendIfRoom(dst, start, " LOGIN=", c.Login, Unavailable)
	}
	if slices.Contains(offered, "REVERSE_NAME") {
		dst = appendIfRoom(dst, start, " REVERSE_NAME=", c.reverseName(), unknown)
	}
	if slices.Contains(offered, "HELO") { // EHLO says it again
		dst = appendIfRoom(dst, start, " HELO=", c.Helo, Unavailable)
	}
	return dst
}

// reverseName: where nobody knows, it is Postfix's own word for that. To say that there is none would let Postfix refuse
// clients that have one (reject_unknown_reverse_client_hostname), to say nothing would leave the name of the client before.
func (c Client) reverseName() string {
	switch {
	case c.ReverseName != "":
		return c.ReverseName
	case c.Name != "":
		return c.Name
	}
	return unknown
}

// appendIfRoom writes an attribute into the line that begins at start, with the other value if it would make the line too
// long.
func appendIfRoom(dst []byte, start int, key, value, other string) []byte {
	const rest = " REVERSE_NAME=" + Unavailable + " HELO=" + Unavailable + "\r\n" // what may still have to follow
	before := len(dst)
	dst = appendAttr(append(dst, key...), value)
	if len(dst)-start+len(rest) > maxCommandLine {
		dst = append(append(dst[:before], key...), other...)
	}
	return dst
}

// appendAttr writes a value in xtext; one that is empty or too long is unavailable.
func appendAttr(dst []byte, value string) []byte {
	start := len(dst)
	if value != "" {
		dst = wire.AppendXtext(dst, value)
	}
	if n := len(dst) - start; n == 0 || n > maxXclientAttr {
		dst = append(dst[:start], Unavailable...)
	}
	return dst
}

func appendXclientAddr(dst []byte, ip netip.Addr) []byte {
	ip = ip.Unmap().WithZone("")
	switch {
	case !ip.IsValid():
		return append(dst, Unavailable...)
	case ip.Is6():
		dst = append(dst, "IPV6:"...)
	}
	return ip.AppendTo(dst)
}

// appendHello writes EHLO or HELO in the client's name. A name that is no single printable word is replaced by the
// client's address literal (RFC 5321, 4.1.3): it must not become syntax, and backends refuse it anyway.
func appendHello(dst []byte, c Client) []byte {
	if c.Extended {
		dst = append(dst, "EHLO "...)
	} else {
		dst = append(dst, "HELO "...)
	}
	if isWord(c.Helo) {
		return append(dst, c.Helo...)
	}
	ip := c.Addr.Addr().Unmap().WithZone("")
	dst = append(dst, '[')
	if ip.Is6() {
		dst = append(dst, "IPv6:"...)
	}
	return append(ip.AppendTo(dst), ']')
}

func isWord(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
