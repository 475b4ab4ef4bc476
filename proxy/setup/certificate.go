package setup

import (
	"crypto/tls"
	"path/filepath"
	"strings"
)

// usualCertificates are where programs that get certificates put them: the chain, and the key beside it.
var usualCertificates = []struct{ certificate, key string }{
	{"/etc/letsencrypt/live/*/fullchain.pem", "privkey.pem"},
	{"/var/lib/dehydrated/certs/*/fullchain.pem", "privkey.pem"},
	{"/etc/dehydrated/certs/*/fullchain.pem", "privkey.pem"},
	{"/var/lib/acme/*/fullchain.pem", "key.pem"},
	{"/var/lib/acme/live/*/fullchain", "privkey"},
	{"/etc/lego/certificates/*.crt", "*.key"},
	{"/root/.acme.sh/*/fullchain.cer", "*.key"},
}

// certificate takes the mail server's own, if it is for the host's name, or else one from the usual places.
func (f *Found) certificate(s System) {
	if f.Certificate != "" && f.Key == "" {
		f.Key = f.Certificate
	}
	if f.Certificate != "" && f.fits(s, f.Certificate, f.Key) {
		return
	}
	if f.Certificate != "" {
		f.note("the mail server's certificate %s is not for %s, has expired, or cannot be read", f.Certificate, f.Hostname)
	}
	f.Certificate, f.Key = "", ""
	for _, usual := range usualCertificates {
		found, err := filepath.Glob(s.path(usual.certificate))
		if err != nil {
			continue
		}
		for _, file := range found {
			certificate := "/" + strings.TrimPrefix(strings.TrimPrefix(file, filepath.Clean(s.Root)), "/")
			for _, key := range keysBeside(s, certificate, usual.key) {
				if f.fits(s, certificate, key) {
					f.Certificate, f.Key = certificate, key
					return
				}
			}
		}
	}
}

// keysBeside are the files beside a certificate that may hold its key.
func keysBeside(s System, certificate, pattern string) []string {
	folder := filepath.Dir(certificate)
	found, err := filepath.Glob(s.path(filepath.Join(folder, pattern)))
	if err != nil {
		return nil
	}
	for i := range found {
		found[i] = filepath.Join(folder, filepath.Base(found[i]))
	}
	return found
}

func (f *Found) fits(s System, certificate, key string) bool {
	pair, err := tls.LoadX509KeyPair(s.path(certificate), s.path(key))
	return err == nil && pair.Leaf.VerifyHostname(f.Hostname) == nil && s.Now().Before(pair.Leaf.NotAfter)
}
