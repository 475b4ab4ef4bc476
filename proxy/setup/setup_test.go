package setup

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/proxy/backend"
	"gatepost/proxy/config"
)

// fake is a machine with these files, whose programs answer these calls.
func fake(t *testing.T, files, programs map[string]string) System {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return System{Root: root, Now: time.Now, Run: func(_ context.Context, name string, args ...string) (string, error) {
		if out, ok := programs[name+" "+strings.Join(args, " ")]; ok {
			return out, nil
		}
		return "", errors.New("no such program")
	}}
}

const (
	listen25  = "  sl  local_address rem_address   st\n   0: 00000000:0019 00000000:0000 0A 00000000:00000000\n"
	listenAll = listen25 + "   1: 0100007F:2729 00000000:0000 0A 0\n   2: 0100007F:0035 00000000:0000 0A 0\n   3: 0100007F:272A 0100007F:0019 01 0\n"
)

var postconf = map[string]string{
	"postconf -x -h myhostname":              "mx.example.org\n",
	"postconf -x -h mydestination":           "mx.example.org, localhost.example.org, localhost, example.org\n",
	"postconf -x -h virtual_mailbox_domains": "hash:/etc/postfix/domains example.net\n",
	"postconf -x -h virtual_alias_domains":   "\n",
	"postconf -x -h relay_domains":           "\n",
	"postconf -x -h smtpd_tls_cert_file":     "/etc/ssl/mail.pem\n",
	"postconf -x -h smtpd_tls_key_file":      "/etc/ssl/mail.key\n",
	"postconf -x -h smtpd_tls_chain_files":   "\n",
	"postconf -M smtp/inet":                  "smtp       inet  n       -       n       -       1       postscreen\n",
}

func TestDetect(t *testing.T) {
	certificate, key := certificate(t, "mx.example.org", time.Now().Add(time.Hour))
	for name, c := range map[string]struct {
		files, programs map[string]string
		want            Answers
		notes           []string
	}{
		"Postfix": {
			map[string]string{"/etc/postfix/main.cf": "", "/proc/net/tcp": listenAll, "/etc/ssl/mail.pem": certificate, "/etc/ssl/mail.key": key,
				"/etc/resolv.conf": "nameserver 8.8.8.8\nnameserver 1.1.1.1\n"}, postconf,
			Answers{Hostname: "mx.example.org", Domains: []string{"mx.example.org", "example.org", "example.net"}, MTA: Postfix, Backend: "127.0.0.1:10026",
				ClientAddress: "xclient", Certificate: "/etc/ssl/mail.pem", Key: "/etc/ssl/mail.key", Resolver: "Cloudflare"},
			[]string{"hash:/etc/postfix/domains", "postscreen has port 25", "a resolver seems to run"},
		},
		"Debian's Exim": {
			map[string]string{"/etc/exim4/update-exim4.conf.conf": "dc_use_split_config='true'\n", "/proc/net/tcp6": listen25,
				"/etc/resolv.conf":                                   "nameserver 192.0.2.53\nnameserver 8.8.8.8\n",
				"/etc/letsencrypt/live/other/fullchain.pem":          "",
				"/etc/letsencrypt/live/mx.example.org/fullchain.pem": certificate, "/etc/letsencrypt/live/mx.example.org/privkey.pem": key},
			map[string]string{"exim4 -bP primary_hostname tls_certificate tls_privatekey +local_domains +relay_to_domains": "primary_hostname = mx.example.org\n" +
				"tls_certificate = ${if exists{/etc/exim4/exim.crt}{/etc/exim4/exim.crt}}\ntls_privatekey = \n" +
				"domainlist local_domains = @:localhost:example.org:lsearch;/etc/virtual\n", "exim4 -bV": "Support for: PRDR TLS\n"},
			Answers{Hostname: "mx.example.org", Domains: []string{"mx.example.org", "example.org"}, MTA: Exim, Backend: "127.0.0.1:10025", ClientAddress: "proxy-v2",
				Certificate: "/etc/letsencrypt/live/mx.example.org/fullchain.pem", Key: "/etc/letsencrypt/live/mx.example.org/privkey.pem"},
			[]string{"exim4-daemon-heavy", "/etc/virtual"},
		},
		"OpenSMTPD": {
			map[string]string{"/etc/smtpd.conf": "pki mx.example.org cert \"/etc/ssl/c.pem\"\npki mx.example.org key \"/etc/ssl/k.pem\"\n" +
				"table domains { \"example.org\", \"example.net\" }\nlisten on all tls pki mx.example.org # hostname no.example.org\n" +
				"match from any for domain <domains> action \"box\"\nmatch from any for domain { \"a.example.com\" b.example.com } action \"box\"\nmatch for domain <other> action x\n",
				"/etc/ssl/c.pem": certificate, "/etc/ssl/k.pem": key}, nil,
			Answers{Hostname: "mx.example.org", Domains: []string{"example.org", "example.net", "a.example.com", "b.example.com"}, MTA: OpenSMTPD,
				Backend: "127.0.0.1:10025", ClientAddress: "proxy-v2", Certificate: "/etc/ssl/c.pem", Key: "/etc/ssl/k.pem"},
			[]string{"<other>"},
		},
		"sendmail": {
			map[string]string{"/etc/mail/sendmail.cf": "Cwlocalhost example.org\nFw/etc/mail/local-host-names\nDjmx.example.org\nO ServerCertFile=/etc/mail/tls/none.pem\n",
				"/etc/mail/local-host-names": "# ours\nexample.net\n"}, nil,
			Answers{Hostname: "mx.example.org", Domains: []string{"example.org", "example.net"}, MTA: Sendmail, Backend: "127.0.0.1:10025", ClientAddress: "none"},
			[]string{"transparent", "/etc/mail/tls/none.pem is not for mx.example.org"},
		},
		"Courier": {
			map[string]string{"/etc/courier/esmtpd": "PORT=smtp\n", "/etc/courier/me": "mx.example.org\n", "/etc/courier/locals": "example.org\n"}, nil,
			Answers{Hostname: "mx.example.org", Domains: []string{"example.org"}, MTA: Courier, Backend: "127.0.0.1:10025", ClientAddress: "none"},
			[]string{"transparent"},
		},
		"nothing": {
			map[string]string{"/etc/hostname": "mx.example.org\n"}, nil,
			Answers{Hostname: "mx.example.org", MTA: Other, Backend: "127.0.0.1:10025", ClientAddress: "none"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := Detect(t.Context(), fake(t, c.files, c.programs), "")
			got := f.Answers()
			if c.want.Listen = ":25"; !equal(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			for _, part := range c.notes {
				if !slices.ContainsFunc(f.Notes, func(n string) bool { return strings.Contains(n, part) }) {
					t.Errorf("no note says %q: %q", part, f.Notes)
				}
			}
			if len(got.Domains) > 0 {
				loads(t, got)
			}
		})
	}
}

func equal(a, b Answers) bool {
	same := slices.Equal(a.Domains, b.Domains)
	a.Domains, b.Domains = nil, nil
	return same && a.Hostname == b.Hostname && a.MTA == b.MTA && a.Backend == b.Backend && a.ClientAddress == b.ClientAddress &&
		a.Certificate == b.Certificate && a.Key == b.Key && a.Listen == b.Listen && a.Resolver == b.Resolver
}

// loads checks that what is written is good, and that what is commented out is good, too.
func loads(t *testing.T, a Answers) {
	t.Helper()
	text, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?m)^( *)#([a-z ]+[a-z_]*:|  )`).ReplaceAllString(text, "$1$2")
	for _, text := range []string{text, shown} {
		c, problems := config.Parse("gatepost.yaml", []byte(text), all.Specs())
		if c == nil {
			t.Fatalf("%v\n%s", problems, text)
		}
		if _, problems := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone())); problems.Failed() {
			t.Fatal(problems)
		}
		if c.Hostname != a.Hostname || !slices.Equal(c.Domains, a.Domains) || c.Backend.ClientAddress != a.ClientAddress || c.Listen[0].Address != a.Listen {
			t.Errorf("%+v is not what was answered", c)
		}
	}
	if !strings.Contains(shown, "\ncontact: ") || !strings.Contains(shown, "\nrules:\n  - name:") {
		t.Errorf("the comments are not tried:\n%s", shown)
	}
}

// What is written is what was answered, whatever that is: nothing becomes syntax.
func TestConfigQuotes(t *testing.T) {
	a := Answers{Hostname: "mx.example.org", Domains: []string{"example.org"}, Backend: "127.0.0.1:10025", ClientAddress: "none", Listen: ":25",
		Contact: "mail \"us\": #1 \\ {{", Certificate: "/etc/ssl/a b: c.pem", Key: "/k\ney"}
	text, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	c, problems := config.Parse("gatepost.yaml", []byte(text), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	if c.Contact != a.Contact || c.Listen[0].Certificate != a.Certificate || c.Listen[0].Key != a.Key {
		t.Errorf("contact %q, certificate %q, key %q", c.Contact, c.Listen[0].Certificate, c.Listen[0].Key)
	}
}

// The pages of the manual show the lines and the commands that init prints; `make test-mta` starts the servers with those.
func TestStepsAreThoseOfTheManual(t *testing.T) {
	services := map[MTA]service{
		Postfix: {line: "smtp inet n - y - - smtpd"}, Exim: {file: "/etc/exim4/update-exim4.conf.conf", debian: true},
		OpenSMTPD: {file: "/etc/smtpd.conf"}, Sendmail: {}, Courier: {}, Other: {},
	}
	for _, mta := range MTAs {
		steps := (&Found{service: services[mta]}).Steps(Answers{MTA: mta, Hostname: "mx.example.org", Backend: "127.0.0.1:10025", ClientAddress: mta.ClientAddress()})
		if mta == Other {
			if len(steps.Do)+len(steps.Undo) > 0 {
				t.Errorf("%+v for nobody knows what", steps)
			}
			continue
		}
		page := filepath.Join("..", "..", "docs", "mta", string(mta)+".md")
		manual, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range slices.Concat([]string{steps.Lines}, steps.Do, steps.Undo) {
			if mta == Courier && text == steps.Lines { // shown for another machine
				text = strings.Replace(text, "127.0.0.1", "192.0.2.26", 1)
			}
			if !strings.HasPrefix(text, "#") && !strings.Contains(string(manual), "\n"+text+"\n") {
				t.Errorf("%s does not have\n%s", page, text)
			}
		}
	}
}

// Every file that is changed is saved before, and comes back.
func TestStepsCanBeUndone(t *testing.T) {
	for _, s := range []service{{line: "smtp inet n - n - - smtpd", file: "/etc/file"}, {file: "/etc/exim4/update-exim4.conf.conf", debian: true},
		{file: "/etc/exim4/update-exim4.conf.conf", debian: true, split: true}} {
		for _, mta := range MTAs[:len(MTAs)-1] {
			steps := (&Found{service: s}).Steps(Answers{MTA: mta, Backend: "127.0.0.1:10025", ClientAddress: mta.ClientAddress()})
			do, undo := strings.Join(steps.Do, "\n"), strings.Join(steps.Undo, "\n")
			saves := regexp.MustCompile(`cp -p (\S+) (\S+)`).FindAllStringSubmatch(do, -1)
			if len(saves) == 0 || !strings.Contains(steps.Do[0], "cp -p") {
				t.Errorf("%s: nothing is saved first: %s", mta, do)
			}
			for _, m := range saves {
				if !strings.Contains(undo, "mv "+m[2]+" "+m[1]) {
					t.Errorf("%s: %s does not come back: %s", mta, m[1], undo)
				}
			}
			for _, m := range regexp.MustCompile(`cat >(/\S+)`).FindAllStringSubmatch(do, -1) {
				if !strings.Contains(undo, "rm "+m[1]) {
					t.Errorf("%s: %s stays: %s", mta, m[1], undo)
				}
			}
		}
	}
	steps := postfixSteps(service{line: "smtp inet n - n - - smtpd"}, "127.0.0.1:10026", backend.ProxyV2)
	if want := "127.0.0.1:10026 inet n - n - - smtpd\n  -o smtpd_upstream_proxy_protocol=haproxy\n  -o smtpd_client_connection_count_limit=0"; steps.Lines != want {
		t.Errorf("%s", steps.Lines)
	}
}

// A certificate that does not fit is passed over for one that does.
func TestCertificates(t *testing.T) {
	old, oldKey := certificate(t, "mx.example.org", time.Now().Add(-time.Hour))
	other, otherKey := certificate(t, "www.example.org", time.Now().Add(time.Hour))
	good, goodKey := certificate(t, "mx.example.org", time.Now().Add(time.Hour))
	files := map[string]string{"/etc/hostname": "mx.example.org", "/etc/letsencrypt/live/a/fullchain.pem": old, "/etc/letsencrypt/live/a/privkey.pem": oldKey,
		"/etc/letsencrypt/live/b/fullchain.pem": other, "/etc/letsencrypt/live/b/privkey.pem": otherKey,
		"/etc/lego/certificates/mx.crt": good, "/etc/lego/certificates/mx.key": goodKey, "/etc/lego/certificates/a.key": otherKey}
	if f := Detect(t.Context(), fake(t, files, nil), ""); f.Certificate != "/etc/lego/certificates/mx.crt" || f.Key != "/etc/lego/certificates/mx.key" {
		t.Errorf("%s, %s", f.Certificate, f.Key)
	}
}

func certificate(t *testing.T, name string, until time.Time) (certificate, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}
