package backend

import (
	"strconv"
	"strings"
)

// Limits is LIMITS (RFC 9422). 0 stands for a limit that is not told.
type Limits struct {
	Offered bool
	Mail    int // transactions in a session
	Rcpt    int // recipients of a transaction
	Domains int // of recipients in a session
}

// parseLimits reads "RCPTMAX=100 MAILMAX=10". RFC 9422, 3: what is not known or makes no sense is ignored.
func parseLimits(args string) Limits {
	l := Limits{Offered: true}
	for _, pair := range strings.Fields(args) {
		name, value, _ := strings.Cut(pair, "=")
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n == 0 || len(value) > 6 { // RFC 9422, 4: six digits at most
			continue
		}
		switch strings.ToUpper(name) {
		case "MAILMAX":
			l.Mail = int(n)
		case "RCPTMAX":
			l.Rcpt = int(n)
		case "RCPTDOMAINMAX":
			l.Domains = int(n)
		}
	}
	return l
}

func (l Limits) and(o Limits) Limits {
	if !l.Offered || !o.Offered {
		return Limits{}
	}
	return Limits{true, smallerLimit(l.Mail, o.Mail), smallerLimit(l.Rcpt, o.Rcpt), smallerLimit(l.Domains, o.Domains)}
}

func smallerLimit(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// WithRecipients is the limits where no transaction may have more than n recipients.
func (l Limits) WithRecipients(n int) Limits {
	l.Rcpt = smallerLimit(l.Rcpt, n)
	return l
}

// String is the line in the answer to EHLO.
func (l Limits) String() string {
	text := "LIMITS"
	add := func(name string, n int) {
		if n > 0 {
			text += " " + name + "=" + strconv.Itoa(n)
		}
	}
	add("MAILMAX", l.Mail)
	add("RCPTMAX", l.Rcpt)
	add("RCPTDOMAINMAX", l.Domains)
	return text
}
