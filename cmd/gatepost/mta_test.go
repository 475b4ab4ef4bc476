//go:build mta

package main

import (
	"fmt"
	"testing"

	"gatepost/proxy/backend"
)

// mtas are the mail servers that Gatepost is shown to work with. One more is a line here, and a file with its entry and
// the Debian packages that .ci/mta unpacks.
var mtas = []*mta{&postfix, &exim, &sendmail, &openSMTPD, &courier}

// An mta is a kind of mail server: how it is started, and what is to be seen of it from outside.
type mta struct {
	name  string
	users []string                // its own, with their ids, whom its packages would have made: "postfix:110"
	ways  []backend.ClientAddress // how it can learn the client's address
	eager []backend.ClientAddress // the same with backend.eager, as far as it stands that
	// start writes its configuration and starts it: for s.way on s.address, with mail for alice in s.box.
	start func(t *testing.T, s *site)
	log   string // file under the root; everything that it sends to syslog is in mtaSyslog

	unknown  string   // how it refuses noone@example.org
	content  refusal  // what it refuses after the end of the message
	lacks    []string // keywords of EHLO that Gatepost cannot make up for
	names    bool     // with xclient it shows the client's name that we hand over
	verified bool     // it offers STARTTLS with s.certificate: tls is verified
	wrong    string   // how it refuses a wrong password; empty: it has no users who sign in
}

// A refusal is a message that a server does not want, and what it says then.
type refusal struct{ body, reply string }

// refuseMe is for servers that can be told to refuse a subject.
const refuseMe = header + "Subject: refuse me\r\n\r\nx\r\n"

// Every mail server, in every way that it can learn the client's address: the same cases.
func TestMTA(t *testing.T) {
	prepareRoot(t)
	for _, m := range mtas {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, way := range m.ways {
				t.Run(string(way), func(t *testing.T) { run(t, newSite(t, m, way)) })
			}
			for _, way := range m.eager {
				t.Run("eager-"+string(way), func(t *testing.T) {
					s := newSite(t, m, way)
					s.eager = true
					run(t, s)
				})
			}
		})
	}
}

// run puts Gatepost before one mail server, goes through the cases, and prints a line for the summary.
func run(t *testing.T, s *site) {
	s.mta.start(t, s)
	s.awaitListener(t)
	s.startGatepost(t)
	passed, total := 0, 0
	for _, c := range cases {
		if c.applies != nil && !c.applies(s) {
			continue
		}
		total++
		if t.Run(c.name, func(t *testing.T) { c.run(t, s) }) {
			passed++
		}
	}
	fmt.Printf("mta %s by %s: %d/%d cases passed\n", s.mta.name, s.manner(), passed, total)
}
