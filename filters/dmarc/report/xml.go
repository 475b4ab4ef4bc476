package report

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"fmt"
	"strconv"
	"time"
)

// The elements, in the order in which RFC 9990 lists them.
type (
	feedback struct {
		XMLName   xml.Name        `xml:"urn:ietf:params:xml:ns:dmarc-2.0 feedback"`
		Version   string          `xml:"version"`
		Metadata  metadata        `xml:"report_metadata"`
		Published policyPublished `xml:"policy_published"`
		Records   []record        `xml:"record"`
	}
	metadata struct {
		OrgName   string    `xml:"org_name"`
		Email     string    `xml:"email"`
		Contact   string    `xml:"extra_contact_info,omitempty"`
		ReportID  string    `xml:"report_id"`
		Range     dateRange `xml:"date_range"`
		Error     string    `xml:"error,omitempty"`
		Generator string    `xml:"generator,omitempty"`
	}
	dateRange struct {
		Begin string `xml:"begin"`
		End   string `xml:"end"`
	}
	policyPublished struct {
		Domain  string `xml:"domain"`
		Method  string `xml:"discovery_method"`
		P       string `xml:"p"`
		SP      string `xml:"sp"`
		NP      string `xml:"np"`
		FO      string `xml:"fo,omitempty"`
		ADKIM   string `xml:"adkim"`
		ASPF    string `xml:"aspf"`
		Testing string `xml:"testing"`
	}
	record struct {
		Row         row         `xml:"row"`
		Identifiers identifiers `xml:"identifiers"`
		Results     authResults `xml:"auth_results"`
	}
	row struct {
		SourceIP  string          `xml:"source_ip"`
		Count     string          `xml:"count"`
		Evaluated policyEvaluated `xml:"policy_evaluated"`
	}
	policyEvaluated struct {
		Disposition string  `xml:"disposition"`
		DKIM        string  `xml:"dkim"`
		SPF         string  `xml:"spf"`
		Reason      *reason `xml:"reason"`
	}
	reason struct {
		Type    string `xml:"type"`
		Comment string `xml:"comment,omitempty"`
	}
	identifiers struct {
		HeaderFrom   string `xml:"header_from"`
		EnvelopeFrom string `xml:"envelope_from"`
	}
	authResults struct {
		DKIM []dkimResult `xml:"dkim"`
		SPF  *spfResult   `xml:"spf"`
	}
	dkimResult struct {
		Domain   string `xml:"domain"`
		Selector string `xml:"selector"`
		Result   string `xml:"result"`
	}
	spfResult struct {
		Domain string `xml:"domain"`
		Scope  string `xml:"scope"`
		Result string `xml:"result"`
	}
)

// XML is the report as a document of the schema in RFC 9990, Appendix A. It needs a row at least.
func (r *Report) XML() ([]byte, error) {
	if len(r.Rows) == 0 {
		return nil, fmt.Errorf("the report about %s is empty", r.Domain)
	}
	f := feedback{
		Version: "1.0",
		Metadata: metadata{OrgName: r.Organization, Email: r.Email, Contact: r.Contact, ReportID: r.ID(),
			Range: dateRange{seconds(r.Day), seconds(r.End())}, Generator: r.Generator},
		Published: r.Policy.element(r.Domain),
		Records:   make([]record, len(r.Rows)),
	}
	if r.Missing > 0 {
		f.Metadata.Error = fmt.Sprintf("%d messages are not counted here: they came out in too many different ways", r.Missing)
	}
	for i := range r.Rows {
		f.Records[i] = r.Rows[i].element()
	}
	body, err := xml.MarshalIndent(&f, "", " ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(body, '\n')...), nil
}

// Compressed is the XML under gzip; the same report always gives the same bytes.
func (r *Report) Compressed() ([]byte, error) {
	document, err := r.XML()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(document); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (p *Policy) element(domain string) policyPublished {
	return policyPublished{Domain: domain, Method: p.Method, P: p.Domain, SP: p.Subdomains, NP: p.NP, FO: p.FO,
		ADKIM: mode(p.StrictDKIM), ASPF: mode(p.StrictSPF), Testing: yes(p.Testing)}
}

func (r *Row) element() record {
	e := record{
		Row: row{SourceIP: r.SourceIP, Count: strconv.FormatUint(r.Count, 10),
			Evaluated: policyEvaluated{Disposition: r.Disposition, DKIM: r.DKIM, SPF: r.SPF}},
		Identifiers: identifiers{HeaderFrom: r.HeaderFrom, EnvelopeFrom: r.EnvelopeFrom},
	}
	if r.Reason != "" {
		e.Row.Evaluated.Reason = &reason{r.Reason, r.Comment}
	}
	for _, s := range r.Signatures {
		e.Results.DKIM = append(e.Results.DKIM, dkimResult(s))
	}
	if r.SPFDomain != "" {
		// DMARC knows the MAIL FROM identity only, which is postmaster at the HELO name for a bounce (RFC 7208, 2.4).
		e.Results.SPF = &spfResult{r.SPFDomain, "mfrom", r.SPFResult}
	}
	return e
}

func mode(strict bool) string {
	if strict {
		return "s"
	}
	return "r"
}

func yes(on bool) string {
	if on {
		return "y"
	}
	return "n"
}

func seconds(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
