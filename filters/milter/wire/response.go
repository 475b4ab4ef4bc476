package wire

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/emersion/go-milter"
)

// AppendReply appends a REPLYCODE: an SMTP reply of class 4 or 5 in the milter's words. lines is the text of each line
// behind the code, enhanced code included; at least one. A % is doubled: MTAs take the text for a format.
func AppendReply(dst []byte, code int, lines []string) []byte {
	dst, start := begin(dst, byte(milter.ActReplyCode))
	for i, line := range lines {
		dst = strconv.AppendInt(dst, int64(code), 10)
		switch last := len(lines) - 1; {
		case i == last:
			dst = append(dst, ' ')
		default:
			dst = append(dst, '-')
		}
		dst = append(dst, strings.ReplaceAll(clean(line), "%", "%%")...)
		if i < len(lines)-1 {
			dst = append(dst, "\r\n"...)
		}
	}
	return finish(append(dst, 0), start)
}

// ParseReply reads the data of REPLYCODE. ok is false for what is no reply of class 4 or 5 whose lines have one code.
func ParseReply(data []byte) (code int, lines []string, ok bool) {
	text := strings.TrimRight(Text(data), "\r\n")
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if len(line) < 3 || line[0] != '4' && line[0] != '5' {
			return 0, nil, false
		}
		n, err := strconv.ParseUint(line[:3], 10, 16)
		if err != nil || len(lines) > 0 && int(n) != code || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
			return 0, nil, false
		}
		code = int(n)
		lines = append(lines, strings.ReplaceAll(line[min(4, len(line)):], "%%", "%"))
	}
	return code, lines, true
}

// HeaderEdit is the data of INSHEADER and CHGHEADER.
//
// Inserted at Index 0 a field becomes the first. A change is made to the field that is the Index-th of that name, from
// 1; with an empty value it is deleted. MTAs count what earlier edits of the same message have left.
type HeaderEdit struct {
	Index       uint32
	Name, Value string
}

// AppendTo appends the frame; code is milter.ActInsertHeader or milter.ActChangeHeader.
func (e *HeaderEdit) AppendTo(dst []byte, code milter.ModifyActCode) []byte {
	dst, start := begin(dst, byte(code))
	dst = binary.BigEndian.AppendUint32(dst, e.Index)
	dst = append(append(dst, clean(e.Name)...), 0)
	dst = append(append(dst, clean(e.Value)...), 0)
	return finish(dst, start)
}

// ParseHeaderEdit reads the data of INSHEADER and CHGHEADER.
func ParseHeaderEdit(data []byte) (e HeaderEdit, ok bool) {
	if len(data) < 4 {
		return HeaderEdit{}, false
	}
	name, value, ok := bytes.Cut(data[4:], nul)
	return HeaderEdit{binary.BigEndian.Uint32(data), string(name), Text(value)}, ok && len(name) > 0
}
