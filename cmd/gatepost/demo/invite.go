package demo

import (
	"fmt"
	"net"
)

// Sum says how it went.
func (s *Stage) Sum(failed int) {
	fmt.Fprintln(s.Paper.w)
	if failed == 0 {
		s.Paper.line(green, "All %d scenarios ended as they should.", len(scenarios))
		return
	}
	s.Paper.line(red, "%d of %d scenarios did not end as they should.", failed, len(scenarios))
}

// Invite says how to go on by hand.
func (s *Stage) Invite() {
	host, port, _ := net.SplitHostPort(s.Address)
	fmt.Fprintf(s.Paper.w, `
The proxy keeps running on %[1]s until Ctrl-C. Try it yourself:

  telnet %[2]s %[3]s
      EHLO me.test
      MAIL FROM:<me@newcomer.test>
      RCPT TO:<alice@example.org>

  swaks --server %[1]s --helo mail.friends.test --from finn@friends.test --to alice@example.org --xclient-addr 192.0.2.10
  swaks --server %[1]s --from x@spam.test --to bob@example.org --xclient-addr 203.0.113.66

  gatepost greylist list -c %[4]s       what is remembered
  gatepost bypass --for 1h -c %[4]s     watch only
  less %[4]s                            its configuration
  ls %[5]s/new                          the mail that arrived

`, s.Address, host, port, s.World.ConfigFile, s.World.Maildir)
}
