package config

import (
	"os"
	"path/filepath"
	"testing"

	"gatepost/filters/all"
)

// Only a backend that cannot tell strangers from its own needs to be shielded from routes in recipients.
func TestRoutesAreRefusedWhereTheBackendTrustsUs(t *testing.T) {
	for text, want := range map[string]bool{
		"backend: 127.0.0.1:10025":                                        false,
		"backend: {address: '127.0.0.1:10025', client_address: none}":     true,
		"backend: {address: '127.0.0.1:10025', client_address: proxy-v2}": false,
	} {
		file := filepath.Join(t.TempDir(), "gatepost.yaml")
		if err := os.WriteFile(file, []byte("domains: [example.org]\n"+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c, problems := Load(file, all.Specs())
		if c == nil {
			t.Fatal(problems)
		}
		if got := c.Policy().RefuseRoutes; got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
