package backend

import (
	"net/netip"
	"slices"
	"strconv"

	"gatepost/proxy/wire"
)

// Client is what is handed over to a backend.
type Client struct {
	Addr     netip.AddrPort
	Local    netip.AddrPort // the address that it connected to
	Name     string         // its verified name, or empty
	Helo     string         // the argument of its EHLO or HELO, as sent
	Extended bool           // EHLO rather than HELO
	Login    string         // authenticated user, or empty
	// Promised is what the client was told in the answer to EHLO, if any: a backend that offers less of what a message may
	// need is passed over.
	Promised *Extensions
}

const (
	maxCommandLine = 512 // RFC 5321, 4.5.3.1.4, CRLF included; Postfix's XCLIENT_README binds XCLIENT to it
	maxXclientAttr = 255 // Postfix answers 501 to more, in decoded bytes; we count encoded ones
	unavailable    = "[UNAVAILABLE]"
)

// appendXclient writes the command line without CRLF. Attributes that are not sent keep the value of the client before,
// or of the proxy; so each attribute that the backend offers and that we know of is sent, unknown ones as unavailable.
// REVERSE_NAME alone is never sent: we do not know it, and saying that there is none would let Postfix refuse
// (reject_unknown_reverse_client_hostname) clients which have one.
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
			dst = append(dst, unavailable...)
		}
	}
	// These two come last: what is too long for the line costs nothing else.
	if c.Login != "" && slices.Contains(offered, "LOGIN") {
		dst = appendIfRoom(dst, start, " LOGIN=", c.Login)
	}
	if slices.Contains(offered, "HELO") {
		dst = appendIfRoom(dst, start, " HELO=", c.Helo)
	}
	return dst
}

// appendIfRoom writes an attribute into the line that begins at start, as unavailable if it would make the line too long.
func appendIfRoom(dst []byte, start int, key, value string) []byte {
	before := len(dst)
	dst = appendAttr(append(dst, key...), value)
	if len(dst)-start+len(unavailable)+len(" HELO=\r\n") > maxCommandLine {
		dst = append(append(dst[:before], key...), unavailable...)
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
		dst = append(dst[:start], unavailable...)
	}
	return dst
}

func appendXclientAddr(dst []byte, ip netip.Addr) []byte {
	ip = ip.Unmap().WithZone("")
	switch {
	case !ip.IsValid():
		return append(dst, unavailable...)
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
