package dmarc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/filters/dmarc/report"
)

// ErrNoReports tells that results are not collected.
var ErrNoReports = errors.New("filters.dmarc.reports is not enabled: nothing is collected")

// maxReports bounds the marks that one request looks at.
const maxReports = 4 * maxMaxRows

// Reports calls yield for each domain that mail of a day (UTC) was from and that asks for reports, in alphabetical order,
// until it returns false. With a domain it is that one alone. Whether a destination wants the report is asked now.
func (f *Filter) Reports(ctx context.Context, day time.Time, domain string, yield func(*report.Report) bool) error {
	if f.collector == nil {
		return ErrNoReports
	}
	day = day.UTC().Truncate(24 * time.Hour)
	prefix := day.Format(time.DateOnly) + "|"
	if domain != "" {
		name, ok := filters.ASCIIName(strings.TrimSuffix(domain, "."))
		if !ok {
			return errors.New("that is no domain")
		}
		prefix += name + "|"
	}
	t, n := newTally(), 0
	err := f.env.Store.Range(ctx, space, prefix, func(key string, m filters.Mark) bool {
		t.add(key, m)
		n++
		return n < maxReports
	})
	if err != nil {
		return err
	}
	domains := t.domains()
	for _, name := range slices.Sorted(maps.Keys(domains)) {
		if r := f.report(ctx, day, name, domains[name]); len(r.Rows) > 0 && !yield(r) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// report puts one together.
func (f *Filter) report(ctx context.Context, day time.Time, domain string, texts []counted) *report.Report {
	config := f.config.Reports
	r := &report.Report{
		Organization: config.OrgName, Email: config.Email, Contact: config.ExtraContact,
		Submitter: f.env.Hostname, Generator: "gatepost", Domain: domain, Day: day,
	}
	if r.Organization == "" {
		r.Organization = f.env.Hostname
	}
	var last counted
	for _, c := range texts {
		switch c.kind {
		case kindRow:
			var row report.Row
			if json.Unmarshal([]byte(c.text), &row) == nil {
				row.Count = c.count
				r.Rows = append(r.Rows, row)
			}
		case kindRecord:
			// Of records that were seen at the same time the choice does not matter, but it must be the same again.
			if order := c.last.Compare(last.last); order > 0 || order == 0 && c.text > last.text {
				last = c
			}
		case kindMissing:
			r.Missing += c.count
		}
	}
	slices.SortFunc(r.Rows, compareRows)
	tags := parseTags(last.text)
	r.Policy = policyOf(parseRecord(last.text), tags.value("fo"), f.config.OrganizationalDomain)
	r.Destinations = f.destinations(ctx, domain, tags.value("rua"))
	return r
}

// compareRows puts what came most often first. It never finds two rows equal, as they would have been one.
func compareRows(a, b report.Row) int {
	if order := cmp.Compare(b.Count, a.Count); order != 0 {
		return order
	}
	one, _ := json.Marshal(a)
	other, _ := json.Marshal(b)
	return cmp.Compare(string(one), string(other))
}

func policyOf(r record, fo, way string) report.Policy {
	p := report.Policy{Method: "treewalk", Domain: r.policy.String(), Subdomains: r.subdomains.String(), NP: r.absent.String(),
		StrictDKIM: r.strictDKIM, StrictSPF: r.strictSPF, Testing: r.testing}
	if way == list {
		p.Method = "psl"
	}
	if isOptions(fo) {
		p.FO = fo
	}
	return p
}

// isOptions tells the values of fo= (RFC 9989, 4.7): 0, 1, d and s with colons between.
func isOptions(fo string) bool {
	for option := range strings.SplitSeq(fo, ":") {
		if len(option) != 1 || !strings.Contains("01ds", option) {
			return false
		}
	}
	return true
}
