package report

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sample() *Report {
	return &Report{
		Organization: "Example & Sons", Email: "dmarc@example.org", Contact: "https://example.org/dmarc", Submitter: "mx.example.org", Generator: "gatepost test",
		Domain: "example.com", Day: time.Date(2026, time.January, 5, 0, 0, 0, 0, time.UTC), Missing: 7,
		Policy: Policy{Method: "treewalk", Domain: "reject", Subdomains: "quarantine", NP: "none", FO: "1:d", StrictSPF: true, Testing: true},
		Rows: []Row{
			{SourceIP: "192.0.2.1", Count: 12, Disposition: "pass", DKIM: "pass", SPF: "fail", HeaderFrom: "example.com", EnvelopeFrom: "bounce.example.com",
				Signatures: []Signature{{"example.com", "s1", "pass"}, {"example.net", "s2", "fail"}}, SPFDomain: "bounce.example.com", SPFResult: "softfail"},
			{SourceIP: "2001:db8::1", Count: 1, Disposition: "none", DKIM: "fail", SPF: "fail", Reason: "trusted_forwarder", Comment: "arc lists.example.net", HeaderFrom: "a.example.com"},
		},
	}
}

const want = `<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">
 <version>1.0</version>
 <report_metadata>
  <org_name>Example &amp; Sons</org_name>
  <email>dmarc@example.org</email>
  <extra_contact_info>https://example.org/dmarc</extra_contact_info>
  <report_id>20260105.example.com@mx.example.org</report_id>
  <date_range>
   <begin>1767571200</begin>
   <end>1767657599</end>
  </date_range>
  <error>7 messages are not counted here: they came out in too many different ways</error>
  <generator>gatepost test</generator>
 </report_metadata>
 <policy_published>
  <domain>example.com</domain>
  <discovery_method>treewalk</discovery_method>
  <p>reject</p>
  <sp>quarantine</sp>
  <np>none</np>
  <fo>1:d</fo>
  <adkim>r</adkim>
  <aspf>s</aspf>
  <testing>y</testing>
 </policy_published>
 <record>
  <row>
   <source_ip>192.0.2.1</source_ip>
   <count>12</count>
   <policy_evaluated>
    <disposition>pass</disposition>
    <dkim>pass</dkim>
    <spf>fail</spf>
   </policy_evaluated>
  </row>
  <identifiers>
   <header_from>example.com</header_from>
   <envelope_from>bounce.example.com</envelope_from>
  </identifiers>
  <auth_results>
   <dkim>
    <domain>example.com</domain>
    <selector>s1</selector>
    <result>pass</result>
   </dkim>
   <dkim>
    <domain>example.net</domain>
    <selector>s2</selector>
    <result>fail</result>
   </dkim>
   <spf>
    <domain>bounce.example.com</domain>
    <scope>mfrom</scope>
    <result>softfail</result>
   </spf>
  </auth_results>
 </record>
 <record>
  <row>
   <source_ip>2001:db8::1</source_ip>
   <count>1</count>
   <policy_evaluated>
    <disposition>none</disposition>
    <dkim>fail</dkim>
    <spf>fail</spf>
    <reason>
     <type>trusted_forwarder</type>
     <comment>arc lists.example.net</comment>
    </reason>
   </policy_evaluated>
  </row>
  <identifiers>
   <header_from>a.example.com</header_from>
   <envelope_from></envelope_from>
  </identifiers>
  <auth_results></auth_results>
 </record>
</feedback>
`

func TestXML(t *testing.T) {
	document, err := sample().XML()
	if err != nil {
		t.Fatal(err)
	}
	if string(document) != want {
		t.Errorf("got\n%s", document)
	}
	if _, err := validate(document); err != nil {
		t.Error(err)
	}
	empty := sample()
	empty.Rows = nil
	if _, err := empty.XML(); err == nil {
		t.Error("a report without a row is none")
	}
}

// The check of the schema itself must be able to fail.
func TestSchemaIsChecked(t *testing.T) {
	for old, wrong := range map[string]string{
		"<version>1.0</version>":                    "<version>2.0</version>",
		"dmarc-2.0":                                 "dmarc-1.0",
		"<p>reject</p>":                             "<p>refuse</p>",
		"<sp>quarantine</sp>":                       "<sp>quarantine</sp><sp>none</sp>",
		"<scope>mfrom</scope>":                      "<scope>helo</scope>",
		"<domain>example.com</domain>\n  <discover": "<discover",
		"<type>trusted_forwarder</type>":            "<type>forwarded</type>",
		"</report_metadata>":                        "<x></x></report_metadata>",
		"<row>":                                     "<row>text",
		"<count>12</count>":                         "<count>many</count>",
	} {
		broken := strings.Replace(want, old, wrong, 1)
		if broken == want {
			t.Fatalf("%s is not there", old)
		}
		if _, err := validate([]byte(broken)); err == nil {
			t.Errorf("%s in place of %s is valid", wrong, old)
		}
	}
}

// Whatever strangers put into domains, selectors and comments, the document stays of the schema, and says what they said.
func TestNothingBecomesSyntax(t *testing.T) {
	hostile := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"</domain><p>none</p>", "]]>", "<!--", "&amp;&lt;", "\x00\x1b\r\n", "\xff\xfe", "\"'>", "<?xml?>", "\r\nBcc: victim@example.net", "../../etc/passwd", "a!b!c", "",
	}))
	rapid.Check(t, func(t *rapid.T) {
		r := sample()
		draw := func(s *string, name string) { *s = hostile.Draw(t, name) }
		draw(&r.Organization, "organization")
		draw(&r.Contact, "contact")
		draw(&r.Submitter, "submitter")
		draw(&r.Domain, "domain")
		draw(&r.Rows[0].HeaderFrom, "header from")
		draw(&r.Rows[0].EnvelopeFrom, "envelope from")
		draw(&r.Rows[0].SPFDomain, "spf")
		draw(&r.Rows[0].Signatures[0].Domain, "d=")
		draw(&r.Rows[0].Signatures[0].Selector, "s=")
		draw(&r.Rows[1].Comment, "comment")
		document, err := r.XML()
		if err != nil {
			t.Fatal(err)
		}
		root, err := validate(document)
		if err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if from := root.find("record/identifiers/header_from").text; isPlainText(r.Rows[0].HeaderFrom) && from != r.Rows[0].HeaderFrom {
			t.Fatalf("%q became %q", r.Rows[0].HeaderFrom, from)
		}
		if !fileName.MatchString(r.FileName()) {
			t.Fatalf("file name %q", r.FileName())
		}
		if !reportID.MatchString(r.ID()) {
			t.Fatalf("Report-ID %q", r.ID())
		}
		checkMessage(t, r, hostile.Draw(t, "to"))
	})
}

var (
	fileName = regexp.MustCompile(`^[A-Za-z0-9_.-]+![A-Za-z0-9_.-]+!1767571200!1767657599\.xml\.gz$`)
	reportID = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*@[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`) // RFC 5322: dot-atom-text twice
)

// isPlainText tells what XML gives back as it was.
func isPlainText(s string) bool {
	for _, r := range s {
		if r < ' ' || r > 0xd7ff {
			return false
		}
	}
	return true
}

// fatal is what rapid and testing have in common.
type fatal interface{ Fatalf(string, ...any) }

// checkMessage takes the message apart again.
func checkMessage(t fatal, r *Report, to string) {
	data, err := r.Message(to, time.Date(2026, time.January, 6, 2, 10, 0, 0, time.UTC))
	if err != nil {
		t.Fatalf("%v", err)
	}
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	for _, name := range []string{"From", "To", "Date", "Subject", "Auto-Submitted", "Mime-Version", "Content-Type"} {
		if len(m.Header[name]) != 1 {
			t.Fatalf("%s is there %d times", name, len(m.Header[name]))
		}
	}
	if len(m.Header) != 7 {
		t.Fatalf("fields: %v", m.Header)
	}
	if subject := m.Header.Get("Subject"); !subjectForm.MatchString(subject) {
		t.Fatalf("subject %q", subject)
	}
	_, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	parts := multipart.NewReader(m.Body, parameters["boundary"])
	if _, err := parts.NextPart(); err != nil {
		t.Fatalf("%v", err)
	}
	part, err := parts.NextRawPart()
	if err != nil {
		t.Fatalf("%v", err)
	}
	if part.Header.Get("Content-Type") != `application/gzip; name="`+r.FileName()+`"` || part.FileName() != r.FileName() {
		t.Fatalf("part: %v", part.Header)
	}
	z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, part))
	if err != nil {
		t.Fatalf("%v", err)
	}
	document, err := io.ReadAll(z)
	if original, _ := r.XML(); err != nil || !bytes.Equal(document, original) {
		t.Fatalf("%v", err)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Fatalf("behind the report: %v", err)
	}
	for line := range strings.Lines(string(data)) {
		if len(line) > 998 || strings.Contains(line, "\r") {
			t.Fatalf("line %q", line)
		}
	}
}

// subjectForm is dmarc-subject of RFC 9990, unfolded.
var subjectForm = regexp.MustCompile(`^Report Domain: \S+ Submitter: \S+ Report-ID: <\S+>$`)

func TestMessage(t *testing.T) {
	checkMessage(t, sample(), "dmarc@example.com")
	data, err := sample().Message("dmarc@example.com", time.Date(2026, time.January, 6, 2, 10, 0, 0, time.UTC))
	const head = "From: \"Example & Sons\" <dmarc@example.org>\nTo: <dmarc@example.com>\nDate: Tue, 06 Jan 2026 02:10:00 +0000\n" +
		"Subject: Report Domain: example.com\n Submitter: mx.example.org\n Report-ID: <20260105.example.com@mx.example.org>\n"
	if err != nil || !strings.HasPrefix(string(data), head) {
		t.Errorf("%v\n%s", err, data)
	}
}

// A report that is written again is the same, bit for bit.
func TestAgain(t *testing.T) {
	one, _ := sample().Compressed()
	other, err := sample().Compressed()
	if err != nil || !bytes.Equal(one, other) {
		t.Errorf("%v", err)
	}
	if got := sample().FileName(); got != "mx.example.org!example.com!1767571200!1767657599.xml.gz" {
		t.Error(got)
	}
}
