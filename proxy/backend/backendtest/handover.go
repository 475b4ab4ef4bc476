package backendtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

func (s *Session) takesXclient() bool {
	return s.server.XClient == XClientAlways || s.server.XClient == XClientOnce && !s.xclientUsed
}

// xclient takes what the client tells about its client (Postfix's XCLIENT_README). Attributes that are not sent keep
// their value, as in Postfix.
func (s *Session) xclient(arg string) bool {
	if s.From != "" {
		return s.answer("503 5.5.1 Error: MAIL transaction in progress")
	}
	if len(arg) > 512-len("XCLIENT \r\n") {
		return s.answer("501 5.5.4 Error: line too long")
	}
	addr, port := s.Client.Addr(), s.Client.Port()
	if s.attributes == nil {
		s.attributes = map[string]string{}
	}
	for _, attr := range strings.Fields(arg) {
		name, value, ok := strings.Cut(attr, "=")
		value, okText := unxtext(value)
		if !ok || !okText || len(value) > 255 {
			return s.answer("501 5.5.4 Bad " + name + " syntax: " + value)
		}
		if value == "[UNAVAILABLE]" {
			value = ""
		}
		if name != "LOGIN" {
			s.attributes[name] = value
		}
		switch name {
		case "NAME":
			s.ClientName = value
			if value != "" { // a name that was verified is the unverified one as well
				s.attributes["REVERSE_NAME"] = value
			}
		case "ADDR":
			ip, err := netip.ParseAddr(strings.TrimPrefix(value, "IPV6:"))
			if err != nil || ip.Is6() != strings.HasPrefix(value, "IPV6:") {
				return s.answer("501 5.5.4 Bad ADDR syntax: " + value)
			}
			addr = ip
		case "PORT":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return s.answer("501 5.5.4 Bad PORT syntax: " + value)
			}
			port = uint16(n)
		case "LOGIN":
			s.Login = value
		case "HELO", "PROTO", "REVERSE_NAME", "DESTADDR", "DESTPORT":
		default:
			return s.answer("501 5.5.4 Bad XCLIENT attribute name: " + name)
		}
	}
	if !strings.Contains(arg, "LOGIN=") {
		s.Login = ""
	}
	s.Client = netip.AddrPortFrom(addr, port)
	s.xclientUsed, s.Helo = true, ""
	s.reset()
	return s.greet()
}

func unxtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return s, false
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return s, false
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), true
}

const signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"

// readProxyHeader reads the header, which must come in one segment, as Postfix wants it. An invalid address means that
// the connection is the proxy's own.
func readProxyHeader(r *bufio.Reader, version ProxyHeader) (client netip.AddrPort, ok bool) {
	if _, err := r.Peek(1); err != nil {
		return client, false
	}
	segment, _ := r.Peek(r.Buffered())
	n := 0
	if version == ProxyV1 {
		client, n, ok = parseV1(segment)
	} else {
		client, n, ok = parseV2(segment)
	}
	r.Discard(n)
	return client, ok
}

func parseV1(b []byte) (client netip.AddrPort, n int, ok bool) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 || end > 105 {
		return client, 0, false
	}
	f := strings.Split(string(b[:end]), " ")
	if len(f) != 6 || f[0] != "PROXY" || f[1] != "TCP4" && f[1] != "TCP6" {
		return client, 0, false // "UNKNOWN" too, as Postfix has it
	}
	from, err1 := netip.ParseAddr(f[2])
	to, err2 := netip.ParseAddr(f[3])
	port, err3 := strconv.ParseUint(f[4], 10, 16)
	_, err4 := strconv.ParseUint(f[5], 10, 16)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || from.Is4() != (f[1] == "TCP4") || to.Is4() != from.Is4() {
		return client, 0, false
	}
	return netip.AddrPortFrom(from, uint16(port)), end + 2, true
}

func parseV2(b []byte) (client netip.AddrPort, n int, ok bool) {
	if len(b) < 16 || string(b[:12]) != signatureV2 {
		return client, 0, false
	}
	n = 16 + int(binary.BigEndian.Uint16(b[14:]))
	if len(b) < n {
		return client, 0, false
	}
	switch a := b[16:n]; {
	case b[12] == 0x20:
		return client, n, true
	case b[12] == 0x21 && b[13] == 0x11 && len(a) >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a)), binary.BigEndian.Uint16(a[8:])), n, true
	case b[12] == 0x21 && b[13] == 0x21 && len(a) >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a)), binary.BigEndian.Uint16(a[32:])), n, true
	}
	return client, 0, false
}
