package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gatepost/rules"
)

// CheckFiles looks at the files that a good configuration names: certificates and their keys. They may be missing on
// the machine that a configuration is written on, and so Parse leaves them alone.
func (c *Config) CheckFiles(now time.Time) Problems {
	d := &document{file: c.doc.file, lines: c.doc.lines, places: c.doc.places}
	for i, l := range c.Listen {
		if l.Certificate != "" {
			d.checkCertificate(fmt.Sprintf("listen[%d].certificate", i), l.Certificate, l.Key, now)
		}
	}
	if c.Admin.Certificate != "" && c.Admin.Enabled() {
		d.checkCertificate("admin.certificate", c.Admin.Certificate, c.Admin.Key, now)
	}
	if c.Backend.CA != "" {
		if err := checkAuthorities(c.Backend.CA); err != nil {
			d.fileProblem("backend.ca", err)
		}
	}
	d.problems.sort()
	return d.problems
}

func (d *document) checkCertificate(key, certificate, private string, now time.Time) {
	if private == "" {
		private = certificate
	}
	pair, err := tls.LoadX509KeyPair(certificate, private)
	if err != nil {
		d.fileProblem(key, certificateError(err, certificate, private))
		return
	}
	if leaf := pair.Leaf; leaf != nil && now.After(leaf.NotAfter) {
		d.add(rules.Problem{Pos: d.place(key), Warning: true,
			Message: fmt.Sprintf("%s: %s expired on %s", key, certificate, leaf.NotAfter.Format(time.DateOnly))})
	}
}

// fileProblem adds what is wrong with a file of a key. A credential that is not ours to read is only a warning: systemd hides
// it from what it runs beside the service, `gatepost check` before a reload among them.
func (d *document) fileProblem(key string, err error) {
	var path *fs.PathError
	folder, inService := credentialFile("")
	if errors.As(err, &path) && filepath.Dir(path.Path) == filepath.Clean(folder) && hidden(err, inService) {
		d.add(rules.Problem{Pos: d.place(key), Warning: true,
			Message: fmt.Sprintf("%s: the credential %s is known to the service alone; it was not looked at", key, filepath.Base(path.Path))})
		return
	}
	d.problem(d.place(key), "%s: %v", key, err)
}

// certificateError names the file where crypto/tls does not.
func certificateError(err error, certificate, private string) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return err
	}
	return fmt.Errorf("%s with the key in %s: %w", certificate, private, err)
}

func checkAuthorities(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return nil
}
