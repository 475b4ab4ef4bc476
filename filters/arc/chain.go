package arc

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gatepost/filters"
	"gatepost/filters/canonical"
)

// Bounds of a message whose chain is validated. They are looked at before any key is asked for or anything hashed.
const (
	maxHeader = 64 << 10
	maxFields = 1000
	maxSets   = 50 // RFC 8617, 4.2.1
)

// The three fields of a set, by their place in it, which is also their order under a seal (RFC 8617, 5.1.1).
const (
	results   = iota // ARC-Authentication-Results
	signature        // ARC-Message-Signature
	seal             // ARC-Seal
	setSize
)

var fieldNames = [setSize]string{"ARC-Authentication-Results", "ARC-Message-Signature", "ARC-Seal"}

// set is what one server added.
type set struct {
	fields  [setSize]*filters.Field
	tags    [setSize]tagList // none for the results
	payload string           // of the results: what follows "i=N;"
}

var (
	errHeader  = errors.New("the header is larger than 64 KiB or has more than 1000 fields")
	errTooMany = errors.New("an instance is not within 1 and 50")
	errEnded   = errors.New("the newest seal says that the chain had failed before")
)

// readChain sorts a header's ARC fields into sets, oldest first (RFC 8617, 5.2, steps 1 to 3). Without any such field
// there is neither a chain nor an error.
func readChain(header *filters.Header) ([]set, error) {
	sets := []set(nil)
	for i := range header.Fields {
		field := &header.Fields[i]
		kind := fieldKind(field.Name)
		if kind < 0 {
			continue
		}
		if sets == nil {
			if err := checkBounds(header); err != nil {
				return nil, err
			}
			sets = make([]set, 0, 4)
		}
		var err error
		if sets, err = addField(sets, kind, field); err != nil {
			return nil, err
		}
	}
	return sets, checkSets(sets)
}

// fieldKind is the place of a field in a set, or -1.
func fieldKind(name string) int {
	if len(name) < len("ARC-Seal") || name[3] != '-' {
		return -1
	}
	for kind, want := range fieldNames {
		if strings.EqualFold(name, want) {
			return kind
		}
	}
	return -1
}

// checkBounds refuses headers that would cost too much, and those that verifiers read in different ways.
func checkBounds(header *filters.Header) error {
	if header.Cut || header.Size > maxHeader || len(header.Fields) > maxFields {
		return errHeader
	}
	for i := range header.Fields {
		raw := header.Fields[i].Raw
		if bytes.Count(raw, []byte("\r\n")) != bytes.Count(raw, []byte{'\n'}) ||
			bytes.Count(raw, []byte{'\r'}) != bytes.Count(raw, []byte{'\n'}) {
			return canonical.ErrLineEnds
		}
	}
	return nil
}

// addField puts a field into its set, with room for the sets that have not been seen.
func addField(sets []set, kind int, field *filters.Field) ([]set, error) {
	text := string(field.Raw)
	text = text[strings.IndexByte(text, ':')+1:]
	s := set{}
	var instance string
	if kind == results {
		var ok bool
		if instance, s.payload, ok = cutInstance(text); !ok {
			return nil, fmt.Errorf("an %s does not begin with i= and a semicolon", fieldNames[kind])
		}
	} else {
		tags, ok := parseTags(text)
		if !ok {
			return nil, fmt.Errorf("an %s has a malformed list of tags", fieldNames[kind])
		}
		s.tags[kind], instance = tags, tags.value("i")
	}
	if !isDigits(instance, 2) {
		return nil, fmt.Errorf("an %s has no number in i=", fieldNames[kind])
	}
	n, _ := strconv.Atoi(instance)
	if n < 1 || n > maxSets {
		return nil, errTooMany
	}
	for len(sets) < n {
		sets = append(sets, set{})
	}
	into := &sets[n-1]
	if into.fields[kind] != nil {
		return nil, fmt.Errorf("there are two of %s %d", fieldNames[kind], n)
	}
	into.fields[kind], into.tags[kind] = field, s.tags[kind]
	if kind == results {
		into.payload = s.payload
	}
	return sets, nil
}

// checkSets wants every set complete and each seal to say of the chain before it what its place demands.
func checkSets(sets []set) error {
	if len(sets) > 0 && sets[len(sets)-1].tags[seal].value("cv") == "fail" {
		return errEnded // RFC 8617, 5.2, step 2: before the structure is looked at
	}
	for i := range sets {
		for kind, field := range sets[i].fields {
			if field == nil {
				return fmt.Errorf("%s %d is missing", fieldNames[kind], i+1)
			}
		}
		want := "pass"
		if i == 0 {
			want = "none"
		}
		if sets[i].tags[seal].value("cv") != want {
			return fmt.Errorf("%s %d: cv= is not %s", fieldNames[seal], i+1, want)
		}
	}
	return nil
}

// cutInstance reads the "i=N;" in front of authentication results (RFC 8617, 4.1.1). Comments may stand anywhere in it.
func cutInstance(text string) (instance, rest string, ok bool) {
	text = skipComments(text)
	if text, ok = strings.CutPrefix(text, "i"); !ok {
		return "", "", false
	}
	if text, ok = strings.CutPrefix(skipComments(text), "="); !ok {
		return "", "", false
	}
	text = skipComments(text)
	rest = strings.TrimLeft(text, "0123456789")
	instance = text[:len(text)-len(rest)]
	rest, ok = strings.CutPrefix(skipComments(rest), ";")
	return instance, rest, ok
}

// skipComments cuts white space and comments (RFC 5322, 3.2.2) off. One that does not end takes everything along.
func skipComments(text string) string {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '(':
			depth++
		case depth > 0 && c == ')':
			depth--
		case depth > 0 && c == '\\':
			i++
		case depth == 0 && strings.IndexByte(white, c) < 0:
			return text[i:]
		}
	}
	return ""
}
