package dmarc

import (
	"bytes"
	"errors"
	"strings"

	"gatepost/filters"
)

// Why there is no author domain. Whatever one program reads differently from another is a chance to show a user a
// domain that was not checked, so everything out of the ordinary ends here.
var (
	errCut       = errors.New("the header is too large to be read to its end")
	errLineEnds  = errors.New("the header has a bare CR or LF")
	errNoFrom    = errors.New("there is no From field")
	errManyFroms = errors.New("there is more than one From field")
	errSyntax    = errors.New("the From field is malformed")
	errNoAddress = errors.New("the From field holds no address")
	errLiteral   = errors.New("the address in From has no domain name")
	errDomains   = errors.New("the From field has addresses of more than one domain")
)

// authorDomain finds the one domain in the one From field (RFC 9989, 5.3.1), with A-labels and in lower case.
func authorDomain(header *filters.Header) (string, error) {
	var from *filters.Field
	for i := range header.Fields {
		field := &header.Fields[i]
		if hasBareLineEnd(field.Raw) {
			return "", errLineEnds // to another program, there may be a From behind it
		}
		if strings.EqualFold(field.Name, "from") {
			if from != nil {
				return "", errManyFroms
			}
			from = field
		}
	}
	switch {
	case header.Cut:
		return "", errCut
	case from == nil:
		return "", errNoFrom
	}
	return addressDomain(from.Value())
}

// hasBareLineEnd tells whether a field has an LF without its CR or the other way round.
func hasBareLineEnd(raw []byte) bool {
	pairs := 0
	for rest := raw; ; pairs++ {
		lf := bytes.IndexByte(rest, '\n')
		if lf < 0 {
			return bytes.Count(raw, []byte{'\r'}) != pairs
		}
		if lf == 0 || rest[lf-1] != '\r' {
			return true
		}
		rest = rest[lf+1:]
	}
}
