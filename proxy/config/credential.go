package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"gatepost/filters"
	"gatepost/rules"
)

// A secret need not be in the configuration itself: `credential:NAME` is what systemd hands to the service (LoadCredential=),
// `file:NAME` a file's content. A name of a file can be `credential:NAME`, too.
const (
	fromCredential = "credential:"
	fromFile       = "file:"
)

// serviceCredentials is where systemd puts the credentials of the unit, for commands that root runs beside the service.
const serviceCredentials = "/run/credentials/gatepost.service"

// maxSecret bounds a secret, in bytes.
const maxSecret = 4096

// credentialFile is where a credential is; inService tells whether it has to be.
func credentialFile(name string) (file string, inService bool) {
	folder := os.Getenv("CREDENTIALS_DIRECTORY")
	if folder == "" {
		return filepath.Join(serviceCredentials, name), false
	}
	return filepath.Join(folder, name), true
}

// hidden tells whether a credential cannot be read because this is not the service. systemd names the folder to what it runs
// beside the service as well (ExecReload=), and shows it to the service alone.
func hidden(err error, inService bool) bool {
	return errors.Is(err, fs.ErrPermission) || !inService && errors.Is(err, fs.ErrNotExist)
}

// decodeSecret reads the secret of a key path that is kept elsewhere.
func (d *document) decodeSecret(n ast.Node, path, text string, secret *filters.Secret) {
	if name, ok := strings.CutPrefix(text, fromCredential); ok {
		if !validCredential(name) {
			d.undecoded(n, path, "%s: %q is no name of a credential (LoadCredential= in the unit)", display(path), name)
			return
		}
		file, inService := credentialFile(name)
		value, err := readSecret(file)
		switch {
		case err == nil:
			*secret = filters.NewSecret(value)
		case !hidden(err, inService):
			d.undecoded(n, path, "%s: %v; is LoadCredential=%s:… in the unit?", display(path), err, name)
		default: // commands beside the service have no use for it
			d.add(rules.Problem{Pos: d.start(n), Warning: true, Message: fmt.Sprintf("%s: the credential %s is known to the service alone", display(path), name)})
			d.unknown = append(d.unknown, name)
			d.broken = append(d.broken, path)
		}
		return
	}
	file := strings.TrimPrefix(text, fromFile)
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(d.file), file)
	}
	if absolute, err := filepath.Abs(file); err == nil {
		file = absolute
	}
	d.secretFiles = append(d.secretFiles, file)
	value, err := readSecret(file)
	if err != nil {
		d.undecoded(n, path, "%s: %v", display(path), err)
		return
	}
	*secret = filters.NewSecret(value)
}

// elsewhere tells whether a secret is not in the configuration itself.
func elsewhere(text string) bool {
	return strings.HasPrefix(text, fromCredential) || strings.HasPrefix(text, fromFile)
}

func validCredential(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}

func readSecret(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(content), "\r\n")
	switch {
	case len(content) > maxSecret:
		return "", fmt.Errorf("%s is longer than %d bytes, which no secret is", file, maxSecret)
	case text == "":
		return "", fmt.Errorf("%s is empty", file)
	case strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("%s has more than one line, or is no text", file)
	}
	return text, nil
}

// SecretFiles are the files that secrets were read from.
func (c *Config) SecretFiles() []string { return c.doc.secretFiles }

// Unserved is why a configuration that is good enough for commands is not for the service; nil: it is.
func (c *Config) Unserved() error {
	if len(c.doc.unknown) == 0 {
		return nil
	}
	return fmt.Errorf("credentials are missing: %s; systemd hands them to the service (LoadCredential= in the unit), which says where they are in CREDENTIALS_DIRECTORY",
		strings.Join(c.doc.unknown, ", "))
}
