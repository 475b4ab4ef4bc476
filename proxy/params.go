package proxy

import (
	"strconv"
	"strings"

	"gatepost/filters"
	"gatepost/proxy/wire"
)

func hasParam(params []filters.Param, key string) bool {
	for _, p := range params {
		if strings.EqualFold(p.Key, key) {
			return true
		}
	}
	return false
}

// checkMail checks the parameters of MAIL against what was offered, and returns the declared size.
func (s *session) checkMail(path wire.Path, params []filters.Param) (size int64, problem *wire.SyntaxError) {
	for i, p := range params {
		key := strings.ToUpper(p.Key)
		switch {
		case hasParam(params[:i], key):
			return 0, &wire.SyntaxError{Code: 501, Enhanced: "5.5.4", Text: key + " is given twice"}
		case s.offered == nil: // after HELO there are none
			return 0, unknownParam(p)
		case !s.offersMail(key):
			return 0, notOffered(p)
		}
		switch key {
		case "SIZE":
			if size, problem = s.checkSize(p.Value); problem != nil {
				return 0, problem
			}
		case "BODY":
			if !s.offersBody(p.Value) {
				return 0, notOffered(p)
			}
		case "SMTPUTF8", "REQUIRETLS":
			if p.HasValue {
				return 0, &wire.SyntaxError{Code: 501, Enhanced: "5.5.4", Text: key + " takes no value"}
			}
		}
	}
	if path.UTF8 && !hasParam(params, "SMTPUTF8") {
		return 0, needsUTF8
	}
	return size, nil
}

// offersMail tells whether a parameter of MAIL belongs to an extension that was announced.
func (s *session) offersMail(key string) bool {
	switch key {
	case "SIZE":
		return s.offered.Size >= 0
	case "BODY":
		return s.offered.EightBit || s.offered.BinaryMIME
	case "SMTPUTF8":
		return s.offered.SMTPUTF8
	case "RET", "ENVID":
		return s.offered.DSN
	case "AUTH": // RFC 4954, 5
		return s.extras().user != ""
	case "REQUIRETLS":
		return s.offered.RequireTLS
	}
	return s.offered.PassesMail(key)
}

// offersBody tells whether a value of BODY belongs to an extension that was announced (RFC 6152, RFC 3030).
func (s *session) offersBody(value string) bool {
	switch strings.ToUpper(value) {
	case "7BIT":
		return true
	case "8BITMIME":
		return s.offered.EightBit
	case "BINARYMIME":
		return s.offered.BinaryMIME
	}
	return false
}

// isBinary tells a message that takes BDAT and is not looked into for line ends (RFC 3030, 3).
func isBinary(params []filters.Param) bool {
	for _, p := range params {
		if strings.EqualFold(p.Key, "BODY") {
			return strings.EqualFold(p.Value, "BINARYMIME")
		}
	}
	return false
}

// checkSize refuses a message at MAIL that would be refused at its end (RFC 1870, 6.1).
func (s *session) checkSize(value string) (size int64, problem *wire.SyntaxError) {
	size, err := strconv.ParseInt(value, 10, 64)
	limit := s.sizeLimit()
	switch {
	case err != nil && !isDigits(value) || size < 0 || strings.HasPrefix(value, "+"):
		return 0, &wire.SyntaxError{Code: 501, Enhanced: "5.5.4", Text: "SIZE needs a number of bytes"}
	case err != nil || size > limit:
		return 0, &wire.SyntaxError{Code: tooLarge, Enhanced: "5.3.4", Text: "The message is larger than " + strconv.FormatInt(limit, 10) + " bytes"}
	}
	return size, nil
}

// isDigits tells a number that is too large from one that is none.
func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// checkRcpt checks the parameters of RCPT against what was offered.
func (s *session) checkRcpt(path wire.Path, params []filters.Param) *wire.SyntaxError {
	for i, p := range params {
		key := strings.ToUpper(p.Key)
		switch {
		case hasParam(params[:i], key):
			return &wire.SyntaxError{Code: 501, Enhanced: "5.5.4", Text: key + " is given twice"}
		case s.offered == nil || !s.offersRcpt(key):
			return unknownParam(p)
		}
	}
	if path.UTF8 && !s.tx.envelope.UTF8 {
		return needsUTF8
	}
	return nil
}

// offersRcpt tells whether a parameter of RCPT belongs to an extension that was announced.
func (s *session) offersRcpt(key string) bool {
	switch key {
	case "NOTIFY", "ORCPT":
		return s.offered.DSN
	}
	return s.offered.PassesRcpt(key)
}

// notOffered answers a parameter of MAIL. Mail that the backend cannot take is refused with the reason: nothing on the way
// converts it (RFC 6152, 3; RFC 6531, 3.5).
func notOffered(p filters.Param) *wire.SyntaxError {
	switch key, value := strings.ToUpper(p.Key), strings.ToUpper(p.Value); {
	case key == "BODY" && value == "8BITMIME":
		return &wire.SyntaxError{Code: 554, Enhanced: "5.6.3", Text: "The mail server behind this one takes no 8-bit mail (8BITMIME); it has to be encoded"}
	case key == "BODY" && value == "BINARYMIME":
		return &wire.SyntaxError{Code: 554, Enhanced: "5.6.3", Text: "Binary mail (BINARYMIME) is not taken here; it has to be encoded"}
	case key == "SMTPUTF8" && !p.HasValue:
		return &wire.SyntaxError{Code: 550, Enhanced: "5.6.7", Text: "The mail server behind this one takes no internationalized mail (SMTPUTF8)"}
	}
	return unknownParam(p)
}

// RFC 6531, 3.5: 5.6.7 for an address that needs the extension.
var needsUTF8 = &wire.SyntaxError{Code: 553, Enhanced: "5.6.7", Text: "An address that is not ASCII needs SMTPUTF8"}

// unknownParam: RFC 5321, 4.1.1.11.
func unknownParam(p filters.Param) *wire.SyntaxError {
	return &wire.SyntaxError{Code: 555, Enhanced: "5.5.4", Text: "Parameter not recognized or not offered: " + p.Key}
}
