package config_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/dnsbl"
	"gatepost/filters/filtertest"
	"gatepost/filters/greylist"
	"gatepost/proxy/backend"
	"gatepost/proxy/config"
)

// whole is a configuration with a bit of everything. Its keys are the product's interface: they stay as they are.
const whole = `hostname: mx.example.org
domains: [example.org]           # what we take mail for
trusted: [192.0.2.0/28]
contact: https://example.org/postmaster
listen:
  - address: ":25"
    certificate: /etc/ssl/mx.pem
    key: /etc/ssl/mx.key
    proxy_from: [192.0.2.7]      # peers that send a PROXY header
    xclient_from: [127.0.0.1]    # peers that may use XCLIENT
backend:
  address: 127.0.0.1:10025       # or a list, tried in order
  client_address: xclient        # xclient, proxy-v1, proxy-v2, transparent, none
resolver: {servers: ["127.0.0.1:53"]}            # default: /etc/resolv.conf
store: {path: /var/lib/gatepost/state}           # or redis: {addresses: [...]}
journal: {path: /var/lib/gatepost/journal, keep: 30d}
admin: {address: 127.0.0.1:8025}
filters:
  dnsbl:
    zones:
      - zone: zen.spamhaus.org
        codes: {127.0.0.2-127.0.0.11: 4}
  greylist: {delay: 5m, window: 24h, keep: 35d}
rules:
  - name: listed
    when: dnsbl.score >= 4
    then: reject
    reply: 554 5.7.1 {client.ip} is listed by {dnsbl.listed}
  - name: suspicious
    when: dnsbl.score > 0 or not rdns.confirmed or spf.result in ["none", "softfail"]
    then: greylist
  - name: forged
    when: dmarc.result == "fail" and dmarc.policy == "reject"
    then: reject
    reply: 550 5.7.26 Message fails the DMARC policy of {dmarc.domain}
    mode: observe
`

func TestAWholeConfiguration(t *testing.T) {
	c, problems := config.Parse("gatepost.yaml", []byte(whole), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	engine, more := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
	if engine == nil || len(more) > 0 {
		t.Errorf("the rules: %v", more)
	}
	if len(problems) > 0 {
		t.Errorf("it is all good, and yet: %v", problems)
	}
	listen := c.Listen[0]
	if c.Hostname != "mx.example.org" || !slices.Equal(c.Domains, []string{"example.org"}) || c.Contact != "https://example.org/postmaster" ||
		!slices.Equal(c.Trusted, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}) {
		t.Errorf("top level: %+v", c)
	}
	if len(c.Listen) != 1 || listen.Address != ":25" || listen.Certificate != "/etc/ssl/mx.pem" || listen.Key != "/etc/ssl/mx.key" ||
		listen.ProxyFrom[0].String() != "192.0.2.7/32" || listen.XClientFrom[0].String() != "127.0.0.1/32" {
		t.Errorf("listen: %+v", c.Listen)
	}
	if !slices.Equal(c.Backend.Address, []string{"127.0.0.1:10025"}) || c.Backend.ClientAddress != backend.XClient ||
		!slices.Equal(c.Resolver.Servers, []string{"127.0.0.1:53"}) || c.Store.Path != "/var/lib/gatepost/state" || c.Journal.Path != "/var/lib/gatepost/journal" || time.Duration(c.Journal.Keep) != 30*24*time.Hour {
		t.Errorf("backend %+v, resolver %+v, store %+v, journal %+v", c.Backend, c.Resolver, c.Store, c.Journal)
	}
	grey := c.Filters["greylist"].Settings.(*greylist.Config)
	if time.Duration(grey.Delay) != 5*time.Minute || time.Duration(grey.Keep) != 35*24*time.Hour || !grey.AskBackend {
		t.Errorf("greylist: %+v", grey)
	}
	if zones := c.Filters["dnsbl"].Settings.(*dnsbl.Config).Zones; len(zones) != 1 || zones[0].Zone != "zen.spamhaus.org" {
		t.Errorf("dnsbl: %+v", zones)
	}
	if len(c.Rules) != 3 || c.Rules[2].Mode.Text != "observe" {
		t.Errorf("rules: %+v", c.Rules)
	}
}

func TestTheLeastConfiguration(t *testing.T) {
	c, problems := config.Parse("gatepost.yaml", []byte("backend: 127.0.0.1:10025\ndomains: [example.org]\n"), all.Specs())
	if c == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	engine, more := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
	if engine == nil || len(more) > 0 {
		t.Fatal(more)
	}
	for _, spec := range all.Specs() {
		if spec.Several { // there is none
			continue
		}
		if f := c.Filters[spec.Name]; !f.Common.Enabled || f.Settings == nil || f.Common.OnError != "pass" {
			t.Errorf("%s: %+v", spec.Name, f)
		}
	}
	if len(engine.Rules().Rules()) < 10 {
		t.Errorf("only %d rules", len(engine.Rules().Rules()))
	}
}

func TestBackendsThatCannotBe(t *testing.T) {
	for text, want := range map[string]string{
		"backend: lmtp:127.0.0.1:24":                                      "backend.address: LMTP answers the end of a message once per recipient",
		"backend: 127.0.0.1:24":                                           "backend.address: port 24 is LMTP",
		"backend: {address: '127.0.0.1:25', client_address: none}":        "backend.client_address: none requires domains",
		"backend: {address: 'unix:/s', client_address: transparent}":      "transparent needs a TCP address",
		"backend: {client_address: xclient}":                              "the address of the MTA behind the proxy is missing",
		"backend: {address: ['127.0.0.1:25', '127.0.0.1:25']}":            "127.0.0.1:25 is already in the list",
		"backend: {address: '127.0.0.1:25', reuse: perhaps}":              `backend.reuse: "perhaps" is neither true nor false`,
		"backend: {address: '127.0.0.1:25', ca: ca.pem}":                  "has a meaning only with tls: verified",
		"backend: {address: '127.0.0.1:25', connections: 0}":              "0 is not between 1 and 100000",
		"backend: {address: '127.0.0.1:25', extensions: [SIZE, XCLIENT]}": `"XCLIENT" is none of PIPELINING`,
	} {
		c, problems := config.Parse("f", []byte(text), all.Specs())
		if c != nil || len(problems) != 1 || !strings.Contains(problems[0].String(), want) {
			t.Errorf("%s:\n%v\nwant %s", text, problems, want)
		}
	}
}

func TestListFiles(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{"secret": "192.0.2.66\n", "lists/ours": "192.0.2.1\n", "lists/more/theirs": "192.0.2.2\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lists := config.Lists{Folder: filepath.Join(folder, "lists")}
	for _, name := range []string{"ours", "more/theirs", "more/../ours", "./ours", filepath.Join(folder, "secret")} {
		if content, err := lists.ReadList(name); err != nil || len(content) == 0 {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	for _, name := range []string{"../secret", "more/../../secret", "..", "", "../lists/ours"} {
		if content, err := lists.ReadList(name); err == nil || !strings.Contains(err.Error(), "leads out of the folder") {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	if _, err := lists.ReadList("missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing one: %v", err)
	}
	if _, err := lists.ReadList("more"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder: %v", err)
	}
}

func TestFileNamesAreMeantFromTheFolderOfTheFile(t *testing.T) {
	text := "domains: [example.org]\nbackend: {address: 'mail.example.org:25', tls: verified, ca: ca.pem}\nstore: {path: state}\n" +
		"lists: exceptions\nlisten:\n  - {address: ':25', certificate: ssl/mx.pem, key: /etc/ssl/mx.key}\n"
	c, problems := config.Parse("/etc/gatepost/gatepost.yaml", []byte(text), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	got := []string{c.Backend.CA, c.Store.Path, c.Lists, c.Listen[0].Certificate, c.Listen[0].Key}
	want := []string{"/etc/gatepost/ca.pem", "/etc/gatepost/state", "/etc/gatepost/exceptions", "/etc/gatepost/ssl/mx.pem", "/etc/ssl/mx.key"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	c, _ = config.Parse("gatepost.yaml", []byte("domains: [example.org]\nbackend: 127.0.0.1:25\n"), all.Specs())
	if !filepath.IsAbs(c.Lists) || filepath.Base(c.Lists) != "lists" {
		t.Errorf("lists: %s", c.Lists)
	}
}

// What `gatepost config` prints is a configuration that means and prints the same.
func TestWriteIsReadBack(t *testing.T) {
	for _, text := range []string{whole, "domains: [example.org]\nbackend: 127.0.0.1:25\n", "domains: [example.org]\nbackend: 127.0.0.1:25\nrules: []\nlog: {level: WARN}\n"} {
		print := func(text string) string {
			c, problems := config.Parse("/etc/gatepost.yaml", []byte(text), all.Specs())
			if c == nil {
				t.Fatalf("%v\nin\n%s", problems, text)
			}
			var b bytes.Buffer
			if err := c.Write(&b, nil); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}
		first := print(text)
		if second := print(first); second != first {
			t.Errorf("printed at first\n%s\nand then\n%s", first, second)
		}
	}
}

func TestCheckFindsEverythingAtOnceAndOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gatepost.yaml")
	text := "backend: 127.0.0.1:25\ncontact: \"a\\nb\"\ndomains: [example.org, under_score.example, 'a b']\nfilters:\n  greylist: {delay: soon}\nrules:\n  - {name: a, when: spf.reslt == 1, then: reject}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, engine, problems := config.Check(file, all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
	if c != nil || engine != nil {
		t.Error("it can be used")
	}
	lines := map[int]int{}
	for _, p := range problems {
		lines[p.Pos.Line]++
	}
	if lines[2] != 1 || lines[3] < 1 || lines[3] > 2 || lines[5] != 1 || lines[7] != 1 || lines[0] != 0 {
		t.Errorf("%v", problems)
	}
	if _, _, problems := config.Check(file+".missing", all.Specs(), filters.Env{}); !problems.Failed() {
		t.Error("a file that is missing can be used")
	}
}

func TestTheSectionStoreCanBeReadFromABrokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gatepost.yaml")
	for text, want := range map[string]string{
		"store: {path: /srv/state}\nrules: none\n": "/srv/state",
		"backend: [\n": "/var/lib/gatepost/state",
		"domains: [example.org]\nbackend: 127.0.0.1:10025\n":    "/var/lib/gatepost/state",
		"stor: {path: /srv/state}\nbackend: 127.0.0.1:10025\n":  "/var/lib/gatepost/state",
		"store: {path: state}\nfilters: {dnsbl: {zones: {}}}\n": filepath.Join(filepath.Dir(file), "state"),
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if section, _ := config.Store(file, all.Specs()); section.Path != want {
			t.Errorf("%q: %s, want %s", text, section.Path, want)
		}
	}
	if section, problems := config.Store(file+".missing", all.Specs()); section.Path != "" || !problems.Failed() {
		t.Errorf("of a missing file: %+v, %v", section, problems)
	}
}

func TestWhereTheJournalIs(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "gatepost.yaml")
	for text, want := range map[string]string{
		"":                            "/var/lib/gatepost/journal",
		"store: {path: here/state}\n": filepath.Join(folder, "here", "state-journal"),
		"store: {path: state}\njournal: {path: decisions}\n":             filepath.Join(folder, "decisions"),
		"store: {path: state}\njournal: {path: off, addresses: keyed}\n": "off",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if section, _ := config.Journal(file, all.Specs()); section.Path != want {
			t.Errorf("%q: %s, want %s", text, section.Path, want)
		}
	}
	least := "domains: [example.org]\nbackend: 127.0.0.1:10025\n"
	for text, want := range map[string]string{
		"store: {path: /srv/x}\njournal: {path: /srv/x}\n": "journal.path: /srv/x is the folder of the store; the journal needs one of its own",
		"journal: {keep: 5m}\n":                            "journal.keep: 5m is not between 1h and 3660d",
		"journal: {size: 1KiB, queue: 3}\n":                "journal.size: 1KiB is not between 1MiB and 65536GiB",
		"journal: {addresses: hidden}\n":                   `journal.addresses: "hidden" is none of clear, keyed, cut`,
	} {
		if c, problems := config.Parse("x.yaml", []byte(least+text), all.Specs()); c != nil || !strings.Contains(problems.Error(), want) {
			t.Errorf("%q: %v, without %q", text, problems, want)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{"none.pem": "none\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text := "domains: [example.org]\nbackend: {address: 'mail.example.org:25', tls: verified, ca: none.pem}\n" +
		"listen:\n  - {address: ':25', certificate: none.pem}\n  - {address: ':26', certificate: missing.pem}\n"
	c, problems := config.Parse(filepath.Join(folder, "gatepost.yaml"), []byte(text), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	found := c.CheckFiles(time.Now()).Error()
	for _, want := range []string{":2:62: backend.ca: ", "none.pem holds no certificate in PEM", ":4:35: listen[0].certificate: ", ":5:35: listen[1].certificate: open ", "missing.pem: no such file"} {
		if !strings.Contains(found, want) {
			t.Errorf("no %q in\n%s", want, found)
		}
	}
}
