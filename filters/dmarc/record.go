package dmarc

import "strings"

const (
	// maxRecord bounds what is read of a record, and what stands in facts and logs: that is a stranger's text.
	maxRecord = 2 << 10
	// maxTags bounds what is read of a record. RFC 9989 knows ten tags.
	maxTags = 32
)

// policy is what a domain's owner wants done with mail that fails (RFC 9989, 4.7).
type policy uint8

const (
	policyNone policy = iota
	policyQuarantine
	policyReject
)

var policies = [...]string{policyNone: "none", policyQuarantine: "quarantine", policyReject: "reject"}

func (p policy) String() string { return policies[p] }

func parsePolicy(value string) (p policy, ok bool) {
	for i, name := range policies {
		if strings.EqualFold(value, name) {
			return policy(i), true
		}
	}
	return policyNone, false
}

// psd says what a record claims about its domain.
type psd uint8

const (
	psdUnknown psd = iota // u: see the tree
	psdNo                 // n: it is an organizational domain
	psdYes                // y: it is a public suffix
)

// record is a DMARC policy record.
type record struct {
	policy     policy // p=
	subdomains policy // sp=, or p=
	absent     policy // np=, or sp=, or p=
	strictDKIM bool   // adkim=s
	strictSPF  bool   // aspf=s
	testing    bool   // t=y
	psd        psd
	// unusable tells that there is no valid policy and nobody to report to: such a record is found, but the message is
	// treated as if there were no DMARC (RFC 9989, 4.10.1).
	unusable bool
}

// isRecord tells whether a text claims to be a DMARC record: its first tag is v, and it is DMARC1 to the letter.
func isRecord(text string) bool {
	rest, found := strings.CutPrefix(text, "v")
	if !found {
		return false
	}
	rest, found = strings.CutPrefix(strings.TrimLeft(rest, " \t"), "=")
	if !found {
		return false
	}
	rest, found = strings.CutPrefix(strings.TrimLeft(rest, " \t"), "DMARC1")
	rest = strings.TrimLeft(rest, " \t")
	return found && (rest == "" || rest[0] == ';')
}

// parseRecord reads a text for which isRecord holds. Unknown tags and mistakes are as if they were not there; a tag that
// is there twice is a mistake, as nobody can tell which one was meant (RFC 6376, 3.2, where the syntax is from).
func parseRecord(text string) record {
	var space [10]tag // a usual record costs no allocation
	tags := appendTags(space[:0], text)
	r := record{
		strictDKIM: strings.EqualFold(tags.value("adkim"), "s"),
		strictSPF:  strings.EqualFold(tags.value("aspf"), "s"),
		testing:    strings.EqualFold(tags.value("t"), "y"),
	}
	switch strings.ToLower(tags.value("psd")) {
	case "y":
		r.psd = psdYes
	case "n":
		r.psd = psdNo
	}
	valid := true
	read := func(name string, otherwise policy) policy {
		value, found := tags.find(name)
		if !found {
			return otherwise
		}
		p, ok := parsePolicy(value)
		valid = valid && ok
		return p
	}
	r.policy = read("p", policyNone) // RFC 9989, 4.7: a missing p is none
	r.subdomains = read("sp", r.policy)
	r.absent = read("np", r.subdomains)
	if !valid {
		r.policy, r.subdomains, r.absent = policyNone, policyNone, policyNone
		r.unusable = !hasURI(tags.value("rua"))
	}
	return r
}

type tag struct{ name, value string }

type tagList []tag

func parseTags(text string) tagList { return appendTags(nil, text) }

// appendTags reads tag=value with semicolons between. Names are case-sensitive (RFC 6376, 3.2). A tag that is there twice
// gets a value that is none.
func appendTags(tags tagList, text string) tagList {
	for part := range strings.SplitSeq(bounded(text), ";") {
		name, value, found := strings.Cut(part, "=")
		name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
		if !found || len(tags) == maxTags {
			continue
		}
		again := false
		for i := range tags {
			if tags[i].name == name {
				tags[i].value, again = "", true
			}
		}
		if !again {
			tags = append(tags, tag{name, value})
		}
	}
	return tags
}

func (l tagList) find(name string) (value string, found bool) {
	for _, t := range l {
		if t.name == name {
			return t.value, true
		}
	}
	return "", false
}

func (l tagList) value(name string) string {
	value, _ := l.find(name)
	return value
}

// hasURI tells whether one of the addresses in rua= is a URI (RFC 3986, 3): a scheme and something behind it.
func hasURI(list string) bool {
	for uri := range strings.SplitSeq(list, ",") {
		scheme, rest, found := strings.Cut(strings.Trim(uri, " \t"), ":")
		if found && isScheme(scheme) && rest != "" && isURIText(rest) && (!strings.EqualFold(scheme, "mailto") || strings.IndexByte(rest, '@') > 0) {
			return true
		}
	}
	return false
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		letter := s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z'
		if !letter && (i == 0 || (s[i] < '0' || s[i] > '9') && strings.IndexByte("+-.", s[i]) < 0) {
			return false
		}
	}
	return s != ""
}

func isURIText(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"<>\\^`{|}", s[i]) >= 0 {
			return false
		}
	}
	return true
}

// bounded cuts a record that is too long behind a tag, so that none is left in part.
func bounded(text string) string {
	if len(text) <= maxRecord {
		return text
	}
	return text[:strings.LastIndexByte(text[:maxRecord], ';')+1]
}

// printable cuts a record to what is read of it, and replaces what may not stand in a log. No tag that means something
// changes by it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ' || r >= 0x7f:
			return '?'
		}
		return r
	}, bounded(text))
}
