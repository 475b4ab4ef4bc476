package dmarc

import (
	"errors"
	"strings"
	"time"

	"gatepost/filters"
)

// ReportConfig is the section `filters.dmarc.reports`.
type ReportConfig struct {
	// Whether results are collected for aggregate reports (RFC 9990). `gatepost dmarc report` writes them, for a day
	// that is over; nothing is sent by itself.
	Enabled bool `yaml:"enabled"`
	// The name of who reports: your organization. Default: the host name.
	OrgName string `yaml:"org_name"`
	// The address that reports are from, and whom their readers may ask. Mail from it must pass DMARC itself.
	Email string `yaml:"email"`
	// Another way to reach you, such as a web page. It stands in every report.
	ExtraContact string `yaml:"extra_contact"`
	// How long results are kept.
	Keep filters.Duration `yaml:"keep"`
	// How many different rows (client address, domains, results) are counted in a day; a tenth of them for one domain.
	// Messages beyond are left out of the reports, which say so.
	MaxRows int `yaml:"max_rows"`
}

const (
	minKeep    = filters.Duration(2 * 24 * time.Hour) // a report is about a day that is over
	maxKeep    = filters.Duration(60 * 24 * time.Hour)
	maxMaxRows = 500_000
	maxText    = 200
)

func defaultReports() ReportConfig {
	return ReportConfig{Keep: filters.Duration(7 * 24 * time.Hour), MaxRows: 100_000}
}

func (c *ReportConfig) validate(errs *filters.KeyErrors) {
	if !c.Enabled {
		return
	}
	if c.Email == "" {
		errs.Add("reports.email", "is missing: an address of yours that reports are from")
	} else if _, _, err := parseAddress(c.Email); err != nil {
		errs.Add("reports.email", "%q: %v", c.Email, err)
	}
	if !isLine(c.OrgName) {
		errs.Add("reports.org_name", "must be one line of at most %d bytes", maxText)
	}
	if !isLine(c.ExtraContact) {
		errs.Add("reports.extra_contact", "must be one line of at most %d bytes", maxText)
	}
	if c.Keep < minKeep || c.Keep > maxKeep {
		errs.Add("reports.keep", "must be between %s and %s", minKeep, maxKeep)
	}
	if c.MaxRows < 10 || c.MaxRows > maxMaxRows {
		errs.Add("reports.max_rows", "must be between 10 and %d", maxMaxRows)
	}
}

func isLine(s string) bool {
	return len(s) <= maxText && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

var errAddress = errors.New("is not a plain address such as dmarc@example.org")

// parseAddress reads local@domain without quotes or anything else that could be syntax somewhere, be it of a shell or of
// an old mail server. The domain comes back with A-labels.
func parseAddress(address string) (local, domain string, err error) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || at > 64 {
		return "", "", errAddress
	}
	local = address[:at]
	if local[0] == '.' || local[0] == '-' || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return "", "", errAddress
	}
	for i := 0; i < len(local); i++ {
		c := local[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && strings.IndexByte("+-_.=~#&'*^", c) < 0 {
			return "", "", errAddress
		}
	}
	domain, ok := filters.ASCIIName(address[at+1:])
	if !ok || !strings.Contains(domain, ".") {
		return "", "", errAddress
	}
	return local, domain, nil
}
