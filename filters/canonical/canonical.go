// Package canonical brings messages into the form that DKIM and ARC sign (RFC 6376, 3.4; RFC 8617, 4.1.2): the body as
// one or two hashes, in one pass while it arrives (body.go), and the fields of the header (header.go). Bare line ends, on
// which verifiers do not agree, are refused (lines.go).
package canonical

// Algorithm says which changes on the way do not matter. Each signature names one for the header and one for the body.
type Algorithm uint8

// The algorithms.
const (
	Simple  Algorithm = iota // RFC 6376, 3.4.1 and 3.4.3: next to nothing may change
	Relaxed                  // RFC 6376, 3.4.2 and 3.4.4: white space may
)

// Named returns the algorithm that c= of a signature calls so (RFC 6376, 3.5).
func Named(name string) (a Algorithm, ok bool) {
	switch name {
	case "simple":
		return Simple, true
	case "relaxed":
		return Relaxed, true
	}
	return Simple, false
}

const crlf = "\r\n"
