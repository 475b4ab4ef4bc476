package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"gatepost/proxy"
)

const (
	soon = 21 * 24 * time.Hour // a renewal that works comes 30 days before
	last = 4 * 24 * time.Hour
)

func (x *examiner) checkCertificates(ctx context.Context, f *findings) {
	names := x.mustCover(ctx)
	for _, l := range x.Config.Listen {
		pairs := l.Certificates
		if l.Certificate != "" {
			pairs = append([]proxy.Certificate{{Certificate: l.Certificate, Key: l.Key}}, pairs...)
		}
		if len(pairs) == 0 {
			f.add(Warning, "listen "+l.Address, "has no certificate: all mail comes in the clear").
				advise("set certificate: and key:, such as those of certbot or lego")
			continue
		}
		covered := map[string]bool{}
		for _, p := range pairs {
			leaf := x.checkPair(f, p)
			for _, name := range names {
				covered[name] = covered[name] || leaf != nil && leaf.VerifyHostname(name) == nil
			}
		}
		for _, name := range names {
			if !covered[name] {
				f.add(Warning, "listen "+l.Address, "no certificate is for %s", name).saw("hostname: and the MX records of domains: name it").
					advise("get a certificate for it: servers that check (DANE, MTA-STS) do not deliver")
			}
		}
	}
	if a := x.Config.Admin; a.Enabled() && a.Certificate != "" {
		x.checkPair(f, a.TLS())
	}
}

// mustCover is the names by which others come here.
func (x *examiner) mustCover(ctx context.Context) []string {
	names := []string{x.Config.Hostname}
	seen := map[string]bool{x.Config.Hostname: true}
	for _, domain := range x.plainDomains() {
		e, err := x.exchangersOf(ctx, domain)
		if err != nil {
			continue // checkNames says so
		}
		for _, host := range e.ours {
			if !seen[host] {
				names, seen[host] = append(names, host), true
			}
		}
	}
	return names
}

// checkPair looks at one certificate with its chain and key. It is nil where they cannot be used.
func (x *examiner) checkPair(f *findings, p proxy.Certificate) *x509.Certificate {
	key := p.Key
	if key == "" {
		key = p.Certificate
	}
	if info, err := x.machine.stat(key); err == nil && info.Mode().Perm()&0o004 != 0 {
		f.add(Warning, key, "everybody on the machine can read the private key").saw("mode %s", info.Mode().Perm()).advise("chmod o-rwx %s", key)
	}
	pair, err := tls.LoadX509KeyPair(p.Certificate, key)
	if err != nil {
		f.add(Error, p.Certificate, "cannot be used").saw("%v", err).advise("the file holds the chain in PEM, the key's file its private key, and the user gatepost must be able to read both")
		return nil
	}
	chain := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain.AddCert(c)
		}
	}
	now, found := x.machine.now(), len(f.list)
	x.checkDates(f, p.Certificate, pair.Leaf, now)
	options := x509.VerifyOptions{Roots: x.machine.roots, Intermediates: chain, CurrentTime: within(pair.Leaf, now)}
	if _, err := pair.Leaf.Verify(options); err != nil {
		f.add(Warning, p.Certificate, "nobody vouches for it: %s", distrust(pair.Leaf, len(pair.Certificate))).saw("%v", err).
			advise("enough for mail that is encrypted if possible; for DANE publish a TLSA record, for MTA-STS use a public authority's, with its whole chain in the file (fullchain.pem)")
	}
	if len(f.list) == found {
		f.add(OK, p.Certificate, "is good for %d days", int(pair.Leaf.NotAfter.Sub(now).Hours()/24)).saw("for %v, by %s", pair.Leaf.DNSNames, pair.Leaf.Issuer)
	}
	return pair.Leaf
}

func (x *examiner) checkDates(f *findings, file string, leaf *x509.Certificate, now time.Time) {
	renew := "renew it, and see why that did not happen by itself; gatepost takes the new file within a minute"
	left := leaf.NotAfter.Sub(now)
	until := leaf.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case now.Before(leaf.NotBefore):
		f.add(Error, file, "is not valid yet").saw("valid from %s", leaf.NotBefore.UTC().Format(time.RFC3339)).advise("look at the clock of this machine")
	case left <= 0:
		f.add(Error, file, "has expired").saw("valid until %s", until).advise("%s", renew)
	case left < last:
		f.add(Error, file, "expires in %s", days(left)).saw("valid until %s", until).advise("%s", renew)
	case left < soon:
		f.add(Warning, file, "expires in %s", days(left)).saw("valid until %s", until).advise("%s", renew)
	}
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// within is a time at which the certificate is valid, so that its chain can be judged apart from its dates.
func within(leaf *x509.Certificate, now time.Time) time.Time {
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	}
	return now
}

func distrust(leaf *x509.Certificate, length int) string {
	switch {
	case bytes.Equal(leaf.RawIssuer, leaf.RawSubject):
		return "it has signed itself"
	case length == 1:
		return "the certificates between it and a known authority are missing in the file, or the authority is your own"
	}
	return "its authority is not known to this machine"
}

var errUnknown = errors.New("not known on this system")
