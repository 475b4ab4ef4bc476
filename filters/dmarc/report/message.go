package report

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/mail"
	"strings"
	"time"
)

// Message is the mail that carries a report to one address, with the line ends that sendmail(8) takes (LF). It has to
// leave by a server whose mail passes DMARC for the domain of Email (RFC 9990, "Email").
func (r *Report) Message(to string, now time.Time) ([]byte, error) {
	attachment, err := r.Compressed()
	if err != nil {
		return nil, err
	}
	file, id := r.FileName(), r.ID()
	boundary := "=_report_" + r.Day.UTC().Format("20060102")
	from := mail.Address{Name: oneLine(r.Organization), Address: oneLine(r.Email)}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\nTo: <%s>\nDate: %s\n", from.String(), oneLine(to), now.UTC().Format(time.RFC1123Z))
	// The form is that of RFC 9990; each part has a line of its own, as domains may be long.
	fmt.Fprintf(&b, "Subject: Report Domain: %s\n Submitter: %s\n Report-ID: <%s>\n", name(r.Domain), name(r.Submitter), id)
	fmt.Fprintf(&b, "Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"%s\"\n\n", boundary)
	fmt.Fprintf(&b, "--%s\nContent-Type: text/plain; charset=us-ascii\n\n", boundary)
	fmt.Fprintf(&b, "This is a DMARC aggregate report (RFC 9990) about mail from %s\nthat %s got on %s (UTC).\n\n", name(r.Domain), name(r.Submitter), r.Day.UTC().Format(time.DateOnly))
	fmt.Fprintf(&b, "--%s\nContent-Type: application/gzip; name=\"%s\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment;\n filename=\"%s\"\n\n", boundary, file, file)
	writeBase64(&b, attachment)
	fmt.Fprintf(&b, "--%s--\n", boundary)
	return b.Bytes(), nil
}

// writeBase64 breaks lines after 76 characters (RFC 2045, 6.8).
func writeBase64(b *bytes.Buffer, data []byte) {
	const width = 57 // bytes
	for len(data) > 0 {
		n := min(width, len(data))
		b.WriteString(base64.StdEncoding.EncodeToString(data[:n]))
		b.WriteByte('\n')
		data = data[n:]
	}
}

// oneLine keeps a value from becoming more than that in a header field.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
