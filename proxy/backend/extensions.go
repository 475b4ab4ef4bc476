package backend

import (
	"slices"
	"strconv"
	"strings"

	"gatepost/proxy/wire"
)

// Extensions is the service extensions that a backend offers, as last seen after the address hand-over.
type Extensions struct {
	Size          int64 // bytes; 0: offered without a limit; -1: not offered (RFC 1870)
	Pipelining    bool
	EightBit      bool
	SMTPUTF8      bool
	DSN           bool
	Chunking      bool
	BinaryMIME    bool
	EnhancedCodes bool
	RequireTLS    bool
	StartTLS      bool
	VRFY          bool
	EXPN          bool
	ETRN          bool
	Help          bool
	Limits        Limits
	Passed        []Keyword // what is only passed on; shared, never written
	Auth          []string  // mechanisms that can be relayed; shared, never written; not part of what a Group offers
	XClient       []string  // attributes; shared, never written
}

// Equal tells whether two servers offer the same.
func (e *Extensions) Equal(o *Extensions) bool {
	return e.flags() == o.flags() && e.Size == o.Size && e.Limits == o.Limits &&
		slices.Equal(e.Passed, o.Passed) && slices.Equal(e.Auth, o.Auth) && slices.Equal(e.XClient, o.XClient)
}

func (e *Extensions) flags() [13]bool {
	return [...]bool{e.Pipelining, e.EightBit, e.SMTPUTF8, e.DSN, e.Chunking, e.BinaryMIME, e.EnhancedCodes, e.RequireTLS, e.StartTLS,
		e.VRFY, e.EXPN, e.ETRN, e.Help}
}

// noExtensions is what a server offers that was greeted with HELO.
var noExtensions = Extensions{Size: -1}

// parseExtensions reads the answer to EHLO (RFC 5321, 4.1.1.1); allowed are the keywords that may be used.
func parseExtensions(r wire.Reply, allowed []string) Extensions {
	e := noExtensions
	if len(r.Lines) == 0 {
		return e
	}
	for _, line := range r.Lines[1:] { // the first line is the server's name
		keyword, args := wire.ParseKeyword(line)
		switch {
		case keyword == "STARTTLS":
			e.StartTLS = true
		case keyword == "AUTH":
			e.Auth = parseMechanisms(args)
		case keyword == "XCLIENT":
			e.XClient = strings.Fields(strings.ToUpper(args))
		case !slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, keyword) }):
		case passable(keyword):
			e.pass(keyword, args)
		default:
			e.set(keyword, args)
		}
	}
	// RFC 3030, 3: BINARYMIME needs CHUNKING.
	e.BinaryMIME = e.BinaryMIME && e.Chunking
	return e
}

func (e *Extensions) set(keyword, args string) {
	switch keyword {
	case "SIZE":
		e.Size = 0
		if n, err := strconv.ParseInt(args, 10, 64); err == nil && n > 0 {
			e.Size = n
		}
	case "PIPELINING":
		e.Pipelining = true
	case "8BITMIME":
		e.EightBit = true
	case "SMTPUTF8":
		e.SMTPUTF8 = true
	case "DSN":
		e.DSN = true
	case "CHUNKING":
		e.Chunking = true
	case "BINARYMIME":
		e.BinaryMIME = true
	case "ENHANCEDSTATUSCODES":
		e.EnhancedCodes = true
	case "REQUIRETLS":
		e.RequireTLS = true
	case "LIMITS":
		e.Limits = parseLimits(args)
	case "VRFY":
		e.VRFY = true
	case "EXPN":
		e.EXPN = true
	case "ETRN":
		e.ETRN = true
	case "HELP":
		e.Help = true
	}
}

// and is what both offer.
func (e Extensions) and(o Extensions) Extensions {
	return Extensions{
		Size:          smallerSize(e.Size, o.Size),
		Pipelining:    e.Pipelining && o.Pipelining,
		EightBit:      e.EightBit && o.EightBit,
		SMTPUTF8:      e.SMTPUTF8 && o.SMTPUTF8,
		DSN:           e.DSN && o.DSN,
		Chunking:      e.Chunking && o.Chunking,
		BinaryMIME:    e.BinaryMIME && o.BinaryMIME,
		EnhancedCodes: e.EnhancedCodes && o.EnhancedCodes,
		RequireTLS:    e.RequireTLS && o.RequireTLS,
		StartTLS:      e.StartTLS && o.StartTLS,
		VRFY:          e.VRFY && o.VRFY,
		EXPN:          e.EXPN && o.EXPN,
		ETRN:          e.ETRN && o.ETRN,
		Help:          e.Help && o.Help,
		Limits:        e.Limits.and(o.Limits),
		Passed:        passedByBoth(e.Passed, o.Passed),
	}
}

func smallerSize(a, b int64) int64 {
	switch {
	case a < 0 || b < 0:
		return -1
	case a == 0:
		return b
	case b == 0:
		return a
	}
	return min(a, b)
}

// missing names the first thing that was promised to a client and that e cannot keep; empty if there is none. Only what
// the message itself may need counts: pipelining and BDAT towards the client are the proxy's to carry alone.
func (e Extensions) missing(promised Extensions) string {
	switch {
	case promised.EightBit && !e.EightBit:
		return "8BITMIME"
	case promised.SMTPUTF8 && !e.SMTPUTF8:
		return "SMTPUTF8"
	case promised.DSN && !e.DSN:
		return "DSN"
	case promised.BinaryMIME && !e.BinaryMIME:
		return "BINARYMIME"
	case promised.RequireTLS && !e.RequireTLS:
		return "REQUIRETLS"
	case promised.Size >= 0 && e.Size < 0:
		return "SIZE"
	case promised.Size >= 0 && e.Size > 0 && (promised.Size == 0 || e.Size < promised.Size):
		return "SIZE " + strconv.FormatInt(promised.Size, 10)
	}
	for _, k := range promised.Passed {
		if !slices.Contains(e.Passed, k) {
			return k.String()
		}
	}
	return ""
}

func (e Extensions) equal(o Extensions) bool {
	return e.Size == o.Size && e.Pipelining == o.Pipelining && e.EightBit == o.EightBit && e.SMTPUTF8 == o.SMTPUTF8 &&
		e.DSN == o.DSN && e.Chunking == o.Chunking && e.BinaryMIME == o.BinaryMIME && e.EnhancedCodes == o.EnhancedCodes &&
		e.StartTLS == o.StartTLS && e.VRFY == o.VRFY && e.EXPN == o.EXPN && e.ETRN == o.ETRN && e.Help == o.Help &&
		e.RequireTLS == o.RequireTLS && e.Limits == o.Limits && slices.Equal(e.Passed, o.Passed) && slices.Equal(e.XClient, o.XClient)
}
