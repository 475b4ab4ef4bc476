package doctor

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"strings"

	"gatepost/proxy"
	"gatepost/proxy/backend"
)

// checkBackends opens a session with each in the name of a stranger and asks it to relay.
func (x *examiner) checkBackends(ctx context.Context, f *findings) {
	c := x.Config
	if len(c.Listen) == 0 {
		f.add(OK, "backend", "none is needed: MTAs call (milter)")
		return
	}
	if !c.Backend.RelayCheck {
		f.add(Warning, "backend.relay_check", "is off: nothing keeps mail away from a backend that relays for everybody").
			advise("take the key out, and let the check below tell what is wrong")
	}
	x.lookAt(ctx, f, c.Backend)
	for _, l := range c.Listen {
		if l.Submission && len(c.Backend.Submission) > 0 {
			x.lookAt(ctx, f, c.Backend.ForSubmission())
			break
		}
	}
}

func (x *examiner) lookAt(ctx context.Context, f *findings, c backend.Config) {
	options := backend.Options{Hostname: x.Config.Hostname, DomainsConfigured: len(x.Config.Domains) > 0}
	found, err := backend.Examine(ctx, c, options, x.ownSenders()...)
	if err != nil {
		f.add(Error, "backend", "cannot be used").saw("%v", err)
		return
	}
	for _, b := range found {
		switch {
		case b.Err != nil:
			x.noSession(f, b, c)
		case c.ClientAddress == backend.NoAddress:
			x.withoutAddress(f, b)
		default:
			arrived(f, b, c)
			relays(f, b)
		}
	}
}

// ownSenders: some servers let everybody relay who claims to be one of theirs.
func (x *examiner) ownSenders() []string {
	for _, d := range x.Config.Domains {
		if !strings.HasPrefix(d, ".") {
			return []string{"<postmaster@" + d + ">"}
		}
	}
	return nil
}

func (x *examiner) noSession(f *findings, b backend.Examination, c backend.Config) {
	said := ""
	if b.Banner != "" {
		said = "; greeting: " + b.Banner
	}
	var e *backend.Error
	advice := "see that the mail server listens there (`ss -ltnp`) and lets this machine in"
	if errors.As(b.Err, &e) {
		if e.Advice != "" {
			advice = e.Advice
			e.Advice = ""
		}
		if e.Refused {
			advice = "it refuses " + b.Stranger.String() + ", a stranger's address: let strangers connect, Gatepost's rules decide about them"
		}
	}
	if e != nil && e.Step != "connect" && c.ClientAddress != backend.NoAddress {
		f.add(Error, b.Address, "does not take the client's address by %s", c.ClientAddress).saw("%v%s", b.Err, said).advise("%s", advice)
		return
	}
	f.add(Error, b.Address, "cannot be reached").saw("%v%s", b.Err, said).advise("%s", advice)
}

// withoutAddress: such a backend relays for Gatepost's machine, and Gatepost's own rules are all there is.
func (x *examiner) withoutAddress(f *findings, b backend.Examination) {
	f.add(OK, b.Address, "answers").saw("greeting: %s; after EHLO: %s; %s", b.Banner, b.Hello, round(b.Took))
	stranger := netip.MustParseAddr("192.0.2.1")
	for _, network := range x.Config.Trusted {
		if network.Contains(stranger) || network.Addr().Is4() && network.Bits() < 8 || network.Addr().Is6() && network.Bits() < 16 {
			f.add(Error, b.Address, "an open relay: it takes everybody for this machine (client_address: none), and trusted: %s may send anywhere", network).
				advise("name single machines under trusted, or hand the client's address over")
			return
		}
	}
	f.add(Notice, b.Address, "cannot tell clients apart (client_address: none): domains: alone keeps it from relaying").
		saw("domains: %s; trusted: %v", strings.Join(x.Config.Domains, ", "), x.Config.Trusted)
}

// addressLiteral is how Exim, sendmail and OpenSMTPD say in their answer to EHLO who they believe to talk to.
var addressLiteral = regexp.MustCompile(`\[(?:IPv6:)?([0-9a-fA-F:.]+)\]`)

// arrived tells whether the backend knows the client by the address that was handed over.
func arrived(f *findings, b backend.Examination, c backend.Config) {
	if m := addressLiteral.FindStringSubmatch(b.Hello); m != nil {
		if seen, err := netip.ParseAddr(m[1]); err == nil {
			if seen.Unmap() != b.Stranger {
				f.add(Error, b.Address, "does not see the address that is handed over (%s): it takes clients for %s", c.ClientAddress, seen).
					saw("handed over: %s; after EHLO: %s", b.Stranger, b.Hello).
					advise("let it take the address from this machine, see docs/backends.md")
				return
			}
			f.add(OK, b.Address, "answers, and sees the client's address").saw("greeting: %s; after EHLO: %s; %s", b.Banner, b.Hello, round(b.Took))
			return
		}
	}
	if b.Own.Accepted && len(b.Relay) > 0 && !b.Relay[0].Accepted && b.Relay[0].Err == nil {
		f.add(OK, b.Address, "answers, and tells clients apart by the address that is handed over").
			saw("greeting: %s; it would relay for 127.0.0.1 and not for %s; %s", b.Banner, b.Stranger, round(b.Took))
		return
	}
	f.add(OK, b.Address, "answers, and takes the client's address (%s)", c.ClientAddress).
		saw("greeting: %s; after EHLO: %s; %s", b.Banner, b.Hello, round(b.Took))
}

// relays reports what the backend said to a stranger's mail for a foreign domain.
func relays(f *findings, b backend.Examination) {
	for _, r := range b.Relay {
		switch {
		case r.Accepted:
			f.add(Error, b.Address, "is an OPEN RELAY: it takes mail for a foreign domain from a stranger").
				saw("client %s, MAIL FROM:%s, RCPT TO:<probe@gatepost-probe.invalid>: %s", b.Stranger, r.Sender, r.Reply).
				advise("see that it trusts neither every client nor every sender that claims to be local (Postfix: mynetworks, " +
					"smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination; Exim: relay_from_hosts; sendmail: access map, promiscuous_relay)")
		case r.Err != nil && r.Sender != "<>" && r.Reply.Class() == 5: // mail from outside in a name of ours
			f.add(OK, b.Address, "refuses senders of its own domain from a stranger").saw("client %s, MAIL FROM:%s: %s", b.Stranger, r.Sender, r.Reply)
		case r.Err != nil:
			f.add(Error, b.Address, "it is not known whether it relays for strangers: until it is, RCPT is answered 451").
				saw("client %s, MAIL FROM:%s: %v", b.Stranger, r.Sender, r.Err).advise("let the check through: it ends after RCPT and sends nothing")
		default:
			f.add(OK, b.Address, "refuses to relay for a stranger").saw("client %s, MAIL FROM:%s: %s", b.Stranger, r.Sender, r.Reply)
		}
	}
}

// submissionOnly tells listeners that only users are served on.
func submissionOnly(all []proxy.Listen) bool {
	for _, l := range all {
		if !l.Submission {
			return false
		}
	}
	return true
}
