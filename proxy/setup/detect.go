package setup

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"gatepost/proxy/backend"
)

// MTA is a kind of mail server.
type MTA string

const (
	Postfix   MTA = "postfix"
	Exim      MTA = "exim"
	OpenSMTPD MTA = "opensmtpd"
	Sendmail  MTA = "sendmail"
	Courier   MTA = "courier"
	Other     MTA = "other"
)

// MTAs are all kinds, in the order in which they are looked for.
var MTAs = []MTA{Postfix, Exim, OpenSMTPD, Sendmail, Courier, Other}

// Found is what the machine has told.
type Found struct {
	MTA      MTA
	Hostname string
	Domains  []string
	// Address is where the mail server shall listen: a port of the loopback address that is free.
	Address string
	// Certificate and Key are files with a certificate for Hostname; empty: there is none.
	Certificate, Key string
	// Resolver is the name of the public resolver that is all that resolv.conf names, or empty.
	Resolver string
	// Notes are what a person should look at.
	Notes []string

	service service // of the mail server
}

// service is what the steps need to know of the mail server as it is.
type service struct {
	line   string // Postfix: master.cf's line for port 25
	debian bool   // Exim: Debian's own way to make its configuration
	split  bool   // and that of many files
	file   string // the file to be changed
}

func (f *Found) note(format string, args ...any) {
	f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
}

// Detect looks at the machine. kind says which mail server it is; empty: that is found out.
func Detect(ctx context.Context, s System, kind MTA) *Found {
	f := &Found{MTA: kind}
	if kind == "" {
		f.MTA = s.kind()
	}
	switch f.MTA {
	case Postfix:
		f.postfix(ctx, s)
	case Exim:
		f.exim(ctx, s)
	case OpenSMTPD:
		f.openSMTPD(s)
	case Sendmail:
		f.sendmail(s)
	case Courier:
		f.courier(s)
	}
	f.hostname(s)
	f.Domains = cleaned(f.Domains, f.Hostname)
	taken := s.listening()
	f.Address = fmt.Sprintf("127.0.0.1:%d", freePort(taken))
	if f.Resolver = publicOnly(s.nameservers()); f.Resolver != "" && slices.Contains(taken, 53) {
		f.note("a resolver seems to run on this machine, but /etc/resolv.conf names that of %s; resolver: in the configuration names the own one", f.Resolver)
	}
	f.certificate(s)
	return f
}

// kind finds the mail server by its configuration. Several can be installed; the first in the list is taken.
func (s System) kind() MTA {
	for _, c := range []struct {
		mta   MTA
		files []string
	}{
		{Postfix, []string{"/etc/postfix/main.cf"}},
		{Exim, []string{"/etc/exim4/update-exim4.conf.conf", "/etc/exim4/exim4.conf", "/etc/exim/exim.conf", "/usr/local/etc/exim/configure"}},
		{OpenSMTPD, []string{"/etc/smtpd.conf", "/etc/mail/smtpd.conf", "/etc/opensmtpd/smtpd.conf"}},
		{Sendmail, []string{"/etc/mail/sendmail.cf"}},
		{Courier, []string{"/etc/courier/esmtpd"}},
	} {
		if slices.ContainsFunc(c.files, s.exists) {
			return c.mta
		}
	}
	return Other
}

func (f *Found) hostname(s System) {
	for _, name := range []string{f.Hostname, s.firstLine("/etc/mailname"), s.firstLine("/etc/hostname")} {
		if strings.Contains(name, ".") && isDomain(name) {
			f.Hostname = strings.ToLower(name)
			return
		}
	}
	if name, err := os.Hostname(); err == nil && s.Root == "/" {
		f.Hostname = name
	}
}

// cleaned are domains that mail can come for: no patterns, no addresses, no names of the machine for itself.
func cleaned(list []string, hostname string) []string {
	var domains []string
	for _, d := range list {
		d = strings.ToLower(strings.TrimSpace(d))
		if !isDomain(d) || !strings.Contains(d, ".") || strings.HasPrefix(d, "localhost") || slices.Contains(domains, d) {
			continue
		}
		domains = append(domains, d)
	}
	return domains
}

// isDomain accepts what may go into the configuration as it is.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 || strings.HasPrefix(s, "-") {
		return false
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
}

// words splits a list as Postfix and Exim write them.
func words(s, separators string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(separators, r) })
}

// ClientAddress is the best way to hand the client's address over to a mail server on the same machine.
func (m MTA) ClientAddress() backend.ClientAddress {
	switch m {
	case Exim, OpenSMTPD:
		return backend.ProxyV2
	case Sendmail, Courier, Other:
		return backend.NoAddress
	}
	return backend.XClient
}
