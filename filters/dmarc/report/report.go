// Package report writes DMARC aggregate reports (RFC 9990): the XML, its file name and the message that carries it. It
// asks nobody and stores nothing; what stands in a report may come from strangers, and never becomes syntax.
package report

import (
	"strings"
	"time"
)

// Report is what is told about one domain and one day.
type Report struct {
	Organization string    `json:"organization"` // who reports
	Email        string    `json:"email"`        // whom to ask about it
	Contact      string    `json:"contact,omitempty"`
	Submitter    string    `json:"submitter"` // our host name
	Generator    string    `json:"generator"`
	Domain       string    `json:"domain"` // the policy domain, with A-labels
	Day          time.Time `json:"day"`    // midnight UTC, where the day begins
	Policy       Policy    `json:"policy"`
	// Missing is how many messages are in no row, as there were too many different ones.
	Missing uint64 `json:"missing,omitempty"`
	// Destinations are those that the domain asks for, in its order, whether they can be used or not.
	Destinations []Destination `json:"destinations"`
	Rows         []Row         `json:"rows,omitempty"`
}

// Policy is what the domain has published; of several records during the day, the last.
type Policy struct {
	Method                 string `json:"method"` // treewalk or psl
	Domain, Subdomains, NP string // none, quarantine or reject
	FO                     string // failure reporting options, empty if none
	StrictDKIM, StrictSPF  bool
	Testing                bool
}

// Destination is one address that the domain asks to report to.
type Destination struct {
	URI     string `json:"uri"`     // as published
	Address string `json:"address"` // empty if it cannot be used
	Limit   int64  `json:"limit"`   // of the message in bytes; 0 for none
	Problem string `json:"problem"` // why it cannot be used, else empty
}

// Row is messages that came out alike. Its JSON is short: it is part of keys in the store.
type Row struct {
	SourceIP     string      `json:"i"`
	Disposition  string      `json:"p"`           // none, pass, quarantine or reject
	DKIM         string      `json:"k"`           // pass or fail: aligned
	SPF          string      `json:"s"`           // pass or fail: aligned
	Reason       string      `json:"r,omitempty"` // of the schema's words; empty if the policy was applied
	Comment      string      `json:"c,omitempty"`
	HeaderFrom   string      `json:"h"`
	EnvelopeFrom string      `json:"e,omitempty"` // empty for the null reverse-path
	Signatures   []Signature `json:"g,omitempty"`
	SPFDomain    string      `json:"d,omitempty"` // empty if there was no domain to check
	SPFResult    string      `json:"f,omitempty"`
	Count        uint64      `json:"n,omitempty"`
}

// Signature is one DKIM signature.
type Signature struct {
	Domain   string `json:"d"`
	Selector string `json:"s"`
	Result   string `json:"r"`
}

// End is the last second of the report's day.
func (r *Report) End() time.Time { return r.Day.AddDate(0, 0, 1).Add(-time.Second) }

// ID is the same for the same day, domain and submitter, so that a report that is sent again is known as such (RFC 9990,
// "Handling of Duplicates").
func (r *Report) ID() string {
	return r.Day.UTC().Format("20060102") + "." + name(r.Domain) + "@" + name(r.Submitter)
}

// FileName is the name that RFC 9990 demands, for the compressed file.
func (r *Report) FileName() string {
	return name(r.Submitter) + "!" + name(r.Domain) + "!" + seconds(r.Day) + "!" + seconds(r.End()) + ".xml.gz"
}

// name keeps a domain name from being anything else, in a path or a field.
func name(domain string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, domain)
	for strings.Contains(clean, "..") {
		clean = strings.ReplaceAll(clean, "..", "._.")
	}
	if clean = strings.Trim(clean, "."); clean == "" {
		return "_"
	}
	return clean
}
