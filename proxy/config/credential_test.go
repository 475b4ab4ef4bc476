package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/filters/all"
)

func TestSecretsElsewhere(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"key": "abc\n", "empty": "\n", "lines": "a\nb\n", "long": strings.Repeat("x", maxSecret+1)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const file = "domains: [example.org]\nbackend: 127.0.0.1:25\nfilters:\n  dnsbl:\n    zones:\n      - {zone: dq.example.net, codes: {127.0.0.2: 4}, key: \"SECRET\"}\n"
	for _, c := range []struct {
		name, secret, credentials, problem string
		unserved                           bool
	}{
		{"in the file", "abc", "", "", false},
		{"a file beside it", "file:key", "", "", false},
		{"a file", "file:" + filepath.Join(folder, "key"), "", "", false},
		{"a credential", "credential:key", folder, "", false},
		{"no such file", "file:other", "", "no such file", false},
		{"no such credential", "credential:other", folder, "is LoadCredential=other:… in the unit?", false},
		{"beside the service", "credential:gatepost-test-key", "", "the credential gatepost-test-key is known to the service alone", true},
		{"a way out", "credential:../key", folder, "no name of a credential", false},
		{"empty", "file:empty", "", "is empty", false},
		{"two lines", "file:lines", "", "more than one line", false},
		{"no secret", "file:long", "", "longer than", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", c.credentials)
			config, problems := Parse(filepath.Join(folder, "gatepost.yaml"), []byte(strings.Replace(file, "SECRET", c.secret, 1)), all.Specs())
			if c.problem == "" && len(problems) > 0 || !strings.Contains(problems.Error(), c.problem) {
				t.Errorf("%v, want %q", problems, c.problem)
			}
			if failed := c.problem != "" && !c.unserved; failed != (config == nil) {
				t.Fatalf("failed: %v, want %v", config == nil, failed)
			}
			if config == nil {
				return
			}
			if got := config.Unserved() != nil; got != c.unserved {
				t.Errorf("unserved: %v", config.Unserved())
			}
			if strings.HasPrefix(c.secret, fromFile) && len(config.SecretFiles()) != 1 {
				t.Errorf("files of secrets: %q", config.SecretFiles())
			}
		})
	}
}

func TestCertificateFromACredential(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "/run/credentials/test")
	c, problems := Parse("/etc/gatepost/gatepost.yaml", []byte("domains: [example.org]\nbackend: 127.0.0.1:25\nlisten:\n  - {address: ':25', certificate: 'credential:mx.pem', key: mx.key}\n"), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	if l := c.Listen[0]; l.Certificate != "/run/credentials/test/mx.pem" || l.Key != "/etc/gatepost/mx.key" {
		t.Errorf("%+v", l)
	}
}

// What systemd runs before a reload does not see the credentials of the service: it must not refuse the reload.
func TestCredentialsThatAreNotOurs(t *testing.T) {
	const text = "domains: [example.org]\nbackend: {address: 'mail.example.org:25', tls: verified, ca: 'credential:ca.pem'}\n" +
		"listen:\n  - {address: ':25', certificate: 'credential:mx.pem', key: 'credential:mx.key'}\n"
	for folder, fails := range map[string]bool{"": false, t.TempDir(): true} {
		t.Setenv("CREDENTIALS_DIRECTORY", folder)
		c, problems := Parse("/etc/gatepost/gatepost.yaml", []byte(text), all.Specs())
		if c == nil {
			t.Fatal(problems)
		}
		found := c.CheckFiles(time.Now())
		if found.Failed() != fails {
			t.Errorf("in the service %v: %v", fails, found)
		}
		if !fails && !strings.Contains(found.Error(), ":4:35: warning: listen[0].certificate: the credential mx.pem is known to the service alone") {
			t.Errorf("it says %v", found)
		}
	}
}
