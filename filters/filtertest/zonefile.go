package filtertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// ParseZone reads a zone in one of two forms; one that starts with "{" is JSON.
//
// As text, each line is one record: name, type and value with blanks between. Empty lines and lines that start with
// "#" or ";" do not count. A text may be in quotes, several quoted parts are joined, and a backslash takes the next
// character as it is; without quotes it reaches to the end of the line.
//
//	example.org             MX   10 mx.example.org
//	example.org             TXT  v=spf1 mx -all
//	mx.example.org          A    192.0.2.25
//	192.0.2.25              PTR  mx.example.org
//	2.0.0.127.bl.example    A    127.0.0.2
//	slow.example.org        TIMEOUT
//
// As JSON, a name has a list of records, or an object of lists by type:
//
//	{"example.org": [{"t": "TXT", "v": ["v=spf1 ", "mx -all"]}, {"t": "MX", "v": [10, "mx.example.org"]}],
//	 "slow.example.org": [{"t": "TIMEOUT"}],
//	 "_dmarc.example.org": {"TXT": [["v=DMARC1; p=reject"]]}}
func ParseZone(data []byte) (*Zone, error) {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		return parseJSON(trimmed)
	}
	return parseText(string(data))
}

// MustParseZone is [ParseZone] for zones that are written in a test. It panics on a mistake.
func MustParseZone(text string) *Zone {
	z, err := ParseZone([]byte(text))
	if err != nil {
		panic(err)
	}
	return z
}

func parseText(text string) (*Zone, error) {
	z := NewZone()
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, rest := field(line)
		typ, value := field(rest)
		if typ == "" {
			return nil, fmt.Errorf("zone line %d: %q has no type; write name, type and value", number, line)
		}
		if strings.EqualFold(typ, "TXT") {
			joined, err := unquote(value)
			if err != nil {
				return nil, fmt.Errorf("zone line %d: %w", number, err)
			}
			value = joined
		}
		if err := z.Add(name, typ, value); err != nil {
			return nil, fmt.Errorf("zone line %d: %w", number, err)
		}
	}
	return z, nil
}

// field cuts the first word off.
func field(s string) (word, rest string) {
	end := strings.IndexAny(s, " \t")
	if end < 0 {
		return s, ""
	}
	return s[:end], strings.TrimLeft(s[end:], " \t")
}

// unquote joins the quoted parts of a text; what does not start with a quote is the text itself.
func unquote(s string) (string, error) {
	if !strings.HasPrefix(s, `"`) {
		return s, nil
	}
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted:
			b.WriteByte(c)
		case c != ' ' && c != '\t':
			return "", fmt.Errorf("%q stands outside of the quotes", c)
		}
	}
	if quoted {
		return "", fmt.Errorf("the quote that opens in %s does not close", s)
	}
	return b.String(), nil
}

func parseJSON(data []byte) (*Zone, error) {
	var names map[string]json.RawMessage
	if err := json.Unmarshal(data, &names); err != nil {
		return nil, fmt.Errorf("zone: %w", err)
	}
	z := NewZone()
	for name, raw := range names {
		if err := z.addJSON(name, raw); err != nil {
			return nil, fmt.Errorf("zone, %q: %w", name, err)
		}
	}
	return z, nil
}

func (z *Zone) addJSON(name string, raw json.RawMessage) error {
	if bytes.HasPrefix(raw, []byte("{")) {
		var types map[string][]any
		if err := json.Unmarshal(raw, &types); err != nil {
			return err
		}
		for typ, values := range types {
			for _, v := range values {
				if err := z.Add(name, typ, jsonValue(typ, v)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	var records []struct {
		Type  string `json:"t"`
		Value any    `json:"v"`
	}
	if err := json.Unmarshal(raw, &records); err != nil {
		return err
	}
	for _, r := range records {
		if err := z.Add(name, r.Type, jsonValue(r.Type, r.Value)); err != nil {
			return err
		}
	}
	return nil
}

// jsonValue brings a value into the form that Add takes: the parts of a text are joined, those of an MX get a blank.
func jsonValue(typ string, v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []any:
		separator := ""
		if typ == "MX" {
			separator = " "
		}
		parts := make([]string, len(v))
		for i, part := range v {
			parts[i] = fmt.Sprint(part)
		}
		return strings.Join(parts, separator)
	default:
		return fmt.Sprint(v)
	}
}
