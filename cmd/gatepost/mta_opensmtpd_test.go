//go:build mta

package main

import (
	"strings"
	"testing"

	"gatepost/proxy/backend"
)

//mta:packages opensmtpd

var openSMTPD = mta{
	name:    "OpenSMTPD",
	users:   []string{"opensmtpd:113", "opensmtpq:114"},
	ways:    []backend.ClientAddress{backend.ProxyV2},
	start:   startOpenSMTPD,
	log:     mtaSyslog,
	unknown: "524 5.2.4 Mailing list expansion problem: <noone@example.org>",
	// It hangs up in the middle of a message with such a line.
	content: refusal{header + "Subject: a long line\r\n\r\n" + strings.Repeat("x", 70000) + "\r\n", "500 5.0.0 Line too long"},
	lacks:   []string{"PIPELINING", "SMTPUTF8", "CHUNKING"},
}

func startOpenSMTPD(t *testing.T, s *site) {
	s.write(t, "/etc/opensmtpd.conf", `smtp max-message-size 50M
`+strings.ReplaceAll(documented(t, "opensmtpd", "listen on"), "10025", s.port())+`table users { "alice@example.org" = "vmail" }
action "box" maildir "`+s.box+`" virtual <users>
match from any for domain "example.org" action "box"
`)
	s.emptyFolder(t, "/var/spool/smtpd", "root")
	s.emptyFolder(t, "/var/lib/opensmtpd/empty", "root")
	s.call(t, "chmod 711 /var/spool/smtpd")
	s.serve(t, "smtpd -d -f /etc/opensmtpd.conf &")
}
