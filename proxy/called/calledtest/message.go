package calledtest

import (
	"bytes"
	"strings"
)

// Field is a header field as a milter sees it: the value has what is behind the colon, with LF for CRLF.
type Field struct{ Name, Value string }

// Split cuts a message behind its header. What is no field begins the body, as MTAs have it.
func Split(text []byte) (head, body []byte) {
	for body = text; len(body) > 0; {
		line, rest, _ := bytes.Cut(body, []byte("\r\n"))
		switch colon := bytes.IndexByte(line, ':'); {
		case len(line) == 0:
			return text[:len(text)-len(body)], rest
		case colon > 0 && !bytes.ContainsAny(line[:colon], " \t"), len(body) < len(text) && (line[0] == ' ' || line[0] == '\t'):
			body = rest
		default:
			return text[:len(text)-len(body)], body
		}
	}
	return text, nil
}

// Fields cuts a header into its fields.
func Fields(head []byte) (list []Field) {
	for line := range bytes.Lines(bytes.ReplaceAll(head, []byte("\r\n"), []byte("\n"))) {
		text := strings.TrimSuffix(string(line), "\n")
		if (text == "" || text[0] == ' ' || text[0] == '\t') && len(list) > 0 {
			list[len(list)-1].Value += "\n" + text
			continue
		}
		name, value, _ := strings.Cut(text, ":")
		list = append(list, Field{name, value})
	}
	return list
}
