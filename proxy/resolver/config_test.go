package resolver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/filters"
)

func TestConfig(t *testing.T) {
	good := Defaults()
	if err := good.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	bad := Config{Servers: []string{"127.0.0.1", "dns.example", "127.0.0.1:0"}, Timeout: 1, Attempt: 1, Cache: 0, Inflight: -1}
	var errs filters.KeyErrors
	if !errors.As(bad.Validate(), &errs) || len(errs) != 6 {
		t.Errorf("mistakes: %v", errs)
	}
}

func TestServerAddresses(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name    string
		servers []string
		system  string
		want    string
	}{
		{"more than are asked", nil, strings.Repeat("nameserver 192.0.2.1\n", maxServers+1), strings.TrimSpace(strings.Repeat("192.0.2.1:53 ", maxServers))},
		{"configured", []string{"192.0.2.1:5353", "2001:db8::1"}, "", "192.0.2.1:5353 [2001:db8::1]:53"},
		{"the system's", nil, "nameserver 192.0.2.53\nnameserver fe80::1%eth0\noptions edns0\n", "192.0.2.53:53 [fe80::1%eth0]:53"},
		{"the system names none", nil, "search example.org\n", "127.0.0.1:53"},
	} {
		got, err := serverAddresses(Config{Servers: c.servers}, write(c.system))
		text := ""
		for i, a := range got {
			if i > 0 {
				text += " "
			}
			text += a.String()
		}
		if err != nil || text != c.want {
			t.Errorf("%s: %s, %v", c.name, text, err)
		}
	}
	if _, err := serverAddresses(Config{}, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing resolv.conf was no error")
	}
}
