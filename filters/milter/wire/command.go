package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"strings"

	"github.com/emersion/go-milter"
)

var nul = []byte{0}

// Text is data up to its first NUL.
func Text(data []byte) string {
	text, _, _ := bytes.Cut(data, nul)
	return string(text)
}

// clean keeps NUL, which ends a text here, out of one.
func clean(text string) string {
	text, _, _ = strings.Cut(text, "\x00")
	return text
}

// Connect is the data of CONNECT.
type Connect struct {
	Name    string // of the client, or its address in brackets
	Family  milter.ProtoFamily
	Port    uint16 // of IPv4 and IPv6 only
	Address string
}

var errConnect = errors.New("milter: CONNECT is malformed")

// ParseConnect reads the data of CONNECT.
func ParseConnect(data []byte) (Connect, error) {
	name, rest, found := bytes.Cut(data, nul)
	if !found || len(rest) == 0 {
		return Connect{}, errConnect
	}
	c := Connect{Name: string(name), Family: milter.ProtoFamily(rest[0])}
	switch rest = rest[1:]; c.Family {
	case milter.FamilyUnknown:
	case milter.FamilyUnix, milter.FamilyInet, milter.FamilyInet6: // libmilter sends a port of 0 for UNIX sockets too
		if len(rest) < 3 {
			return Connect{}, errConnect
		}
		c.Port, c.Address = binary.BigEndian.Uint16(rest), Text(rest[2:])
	default:
		return Connect{}, errConnect
	}
	return c, nil
}

// AppendTo appends the frame.
func (c *Connect) AppendTo(dst []byte) []byte {
	dst, start := begin(dst, byte(milter.CodeConn))
	dst = append(append(dst, clean(c.Name)...), 0, byte(c.Family))
	if c.Family != milter.FamilyUnknown {
		dst = binary.BigEndian.AppendUint16(dst, c.Port)
		dst = append(append(dst, clean(c.Address)...), 0)
	}
	return finish(dst, start)
}

// Macros reads the data of MACRO: the command that they belong to, and their names and values. What comes is valid as
// long as data is. A last name without a value has an empty one.
func Macros(data []byte) (command milter.Code, macros iter.Seq2[[]byte, []byte]) {
	if len(data) == 0 {
		return 0, func(func([]byte, []byte) bool) {}
	}
	return milter.Code(data[0]), func(yield func(name, value []byte) bool) {
		for rest := data[1:]; len(rest) > 0; {
			var name, value []byte
			name, rest, _ = bytes.Cut(rest, nul)
			value, rest, _ = bytes.Cut(rest, nul)
			if !yield(name, value) {
				return
			}
		}
	}
}

// AppendMacros appends a frame MACRO for a command; pairs is names and values in turn.
func AppendMacros(dst []byte, command milter.Code, pairs ...string) []byte {
	dst, start := begin(dst, byte(milter.CodeMacro))
	dst = append(dst, byte(command))
	for _, text := range pairs {
		dst = append(append(dst, clean(text)...), 0)
	}
	return finish(dst, start)
}

// Envelope reads the data of MAIL and RCPT: the path as the client gave it, angle brackets included, and its ESMTP
// parameters.
func Envelope(data []byte) (path string, params []string) {
	for first := true; len(data) > 0; first = false {
		var text []byte
		text, data, _ = bytes.Cut(data, nul)
		if first {
			path = string(text)
		} else if len(text) > 0 {
			params = append(params, string(text))
		}
	}
	return path, params
}

// AppendTexts appends a frame whose data are texts, each with its NUL: MAIL, RCPT, HELO, HEADER, UNKNOWN.
func AppendTexts(dst []byte, code byte, texts ...string) []byte {
	dst, start := begin(dst, code)
	for _, text := range texts {
		dst = append(append(dst, clean(text)...), 0)
	}
	return finish(dst, start)
}

// Header reads the data of HEADER. They are valid as long as data is. The value is as the message has it, folding
// included, with LF or CRLF as line ends; whether a blank at its start belongs to it is negotiated.
func Header(data []byte) (name, value []byte, ok bool) {
	name, value, ok = bytes.Cut(data, nul)
	value = bytes.TrimSuffix(value, nul)
	return name, value, ok && len(name) > 0
}
