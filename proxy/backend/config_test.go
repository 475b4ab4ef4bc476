package backend

import (
	"slices"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	c := Default()
	if err := c.UnmarshalScalar("127.0.0.1:10025"); err != nil || c.Validate() != nil {
		t.Errorf("%v %v", err, c.Validate())
	}
	for name, test := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no address":      {func(c *Config) { c.Address = nil }, "address: the address of the MTA"},
		"no port":         {func(c *Config) { c.Address = []string{"127.0.0.1"} }, "address: \"127.0.0.1\" is neither"},
		"port 0":          {func(c *Config) { c.Address = []string{"h:0"} }, "1 to 65535"},
		"named port":      {func(c *Config) { c.Address = []string{"h:smtp"} }, "1 to 65535"},
		"twice":           {func(c *Config) { c.Address = []string{"h:25", "h:25"} }, "address[1]: h:25 is already"},
		"many":            {func(c *Config) { c.Address = slices.Repeat([]string{"h:25"}, 33) }, "33 addresses"},
		"lmtp":            {func(c *Config) { c.Address = []string{"lmtp:unix:/x"} }, "LMTP answers the end of a message once per recipient"},
		"lmtp port":       {func(c *Config) { c.Address = []string{"h:24"} }, "port 24 is LMTP"},
		"relative":        {func(c *Config) { c.Address = []string{"unix:x"} }, "starts with /"},
		"client_address":  {func(c *Config) { c.ClientAddress = "xforward" }, "client_address: \"xforward\" is none of xclient, proxy-v1"},
		"transparent":     {func(c *Config) { c.ClientAddress, c.Address = Transparent, []string{"unix:/x"} }, "needs a TCP address"},
		"tls":             {func(c *Config) { c.TLS = "yes" }, "tls: \"yes\" is none of auto, none"},
		"tls unix":        {func(c *Config) { c.TLS, c.Address = TLSVerified, []string{"unix:/x"} }, "host name"},
		"ca":              {func(c *Config) { c.CA = "/x" }, "ca: has a meaning only with"},
		"connections":     {func(c *Config) { c.Connections = 0 }, "connections: 0"},
		"connect_timeout": {func(c *Config) { c.ConnectTimeout = 0 }, "connect_timeout: 0s is shorter than 100ms"},
		"extensions":      {func(c *Config) { c.Extensions = []string{"dsn", "XCLIENT"} }, "extensions[1]: \"XCLIENT\" is none of"},
	} {
		c := Default()
		c.Address = []string{"127.0.0.1:25"}
		test.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
		if _, err := New(c, Options{}); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
	c = Default()
	c.Address, c.ClientAddress = []string{"127.0.0.1:25"}, NoAddress
	if _, err := New(c, Options{}); err == nil || !strings.Contains(err.Error(), "none requires domains") {
		t.Errorf("none without domains: %v", err)
	}
	if _, err := New(c, Options{DomainsConfigured: true}); err != nil {
		t.Error(err)
	}
}

func TestIsLocal(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:25": true, "[::1]:25": true, "localhost:25": true, "unix:/x": true,
		"192.0.2.1:25": false, "mx.example.org:25": false, "[::ffff:127.0.0.1]:25": true} {
		if isLocal(address) != want {
			t.Errorf("%s", address)
		}
	}
}
