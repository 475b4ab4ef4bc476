package doctor

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatepost/proxy/backend/backendtest"
)

func TestAllIsWell(t *testing.T) {
	r := newWorld(t).examine()
	if r.Worst > Notice {
		t.Errorf("worst is %s:\n%s", r.Worst, list(r))
	}
	want(t, r, "resolver", OK, "answers, recurses and validates")
	want(t, r, "lists", OK, "bl.test (IPv4)", "lists its test point")
	want(t, r, "backend", OK, "tells clients apart", "it would relay for 127.0.0.1 and not for 192.0.2.1")
	want(t, r, "backend", OK, "refuses to relay", "MAIL FROM:<>")
	want(t, r, "backend", OK, "refuses to relay", "MAIL FROM:<postmaster@example.org>")
	want(t, r, "names", OK, "mx.example.org", "leads to this machine")
	want(t, r, "names", OK, "example.org", "its mail comes to this machine")
	want(t, r, "certificates", OK, "is good for 60 days")
	want(t, r, "limits", OK, "65536 may be open")
	want(t, r, "limits", OK, "memory")
	want(t, r, "clock", OK, "synchronised")
	want(t, r, "folders", OK, "store.path")
	want(t, r, "folders", OK, "journal.path")
	want(t, r, "ports", OK, "greets")
	want(t, r, "admin", Notice, "127.0.0.1:8025")
	for _, f := range r.Findings {
		if f.Severity == OK && f.Remedy != "" {
			t.Errorf("nothing is to be done: %+v", f)
		}
	}
	text, err := json.Marshal(r)
	if err != nil || !strings.Contains(string(text), `"worst":"notice"`) || !strings.Contains(string(text), `"severity":"ok"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// Each entry breaks one thing, and names the finding that must come of it.
func TestFindings(t *testing.T) {
	for name, c := range map[string]struct {
		breaks   func(*world)
		check    string
		severity Severity
		parts    []string
	}{
		"resolver silent": {func(w *world) { w.answer = func(string, *dns.Msg, *dns.Msg) *dns.Msg { return nil } },
			"resolver", Error, []string{"does not answer", "resolver.servers"}},
		"lists without resolver": {func(w *world) { w.answer = func(string, *dns.Msg, *dns.Msg) *dns.Msg { return nil } },
			"lists", Error, []string{"did not answer", "look at the resolver"}},
		"resolver refuses": {func(w *world) {
			w.answer = func(_ string, q, _ *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) }
		}, "resolver", Error, []string{"REFUSED"}},
		"resolver without recursion": {func(w *world) {
			w.answer = func(_ string, _, r *dns.Msg) *dns.Msg { r.RecursionAvailable = false; return r }
		}, "resolver", Error, []string{"does not recurse", "unbound"}},
		"resolver without DNSSEC": {func(w *world) {
			w.answer = func(_ string, _, r *dns.Msg) *dns.Msg { r.AuthenticatedData = false; return r }
		}, "resolver", Notice, []string{"does not validate DNSSEC", "auto-trust-anchor-file"}},
		"resolver without TCP": {func(w *world) {
			w.answer = func(network string, q, r *dns.Msg) *dns.Msg {
				if network == "tcp" {
					return nil
				}
				return r
			}
		}, "resolver", Warning, []string{"over TCP"}},
		"resolver slow": {func(w *world) {
			w.answer = func(_ string, q, r *dns.Msg) *dns.Msg {
				if q.Question[0].Name == "arpa." {
					time.Sleep(slowAnswer + 20*time.Millisecond)
				}
				return r
			}
		}, "resolver", Warning, []string{"is slow"}},

		"list refuses": {func(w *world) { w.zone += "\n1.0.0.127.bl.test. A 127.255.255.254" },
			"lists", Error, []string{"bl.test", "is left out", "refuses to answer our resolver"}},
		"list says all": {func(w *world) { w.zone += "\n1.0.0.127.bl.test. A 127.0.0.2" },
			"lists", Error, []string{"answers everything"}},
		"list dead": {func(w *world) { w.zone = strings.Replace(w.zone, "2.0.0.127.bl.test", "3.0.0.127.bl.test", 1) },
			"lists", Error, []string{"does not list its test point"}},
		"list not tested": {func(w *world) {
			w.config = "filters: {dnsbl: {zones: [{zone: bl.test, ipv6: off, test: off, codes: {127.0.0.2: 4}}]}}"
		},
			"lists", Notice, []string{"test: off"}},
		"no list": {func(w *world) { w.config = "filters: {}" }, "lists", Notice, []string{"no block list is asked"}},

		"backend gone": {func(w *world) { w.backend = closedPort(w.t) },
			"backend", Error, []string{"cannot be reached", "refused", "ss -ltnp"}},
		"backend without XCLIENT": {func(w *world) { w.back.XClient = backendtest.XClientNever },
			"backend", Error, []string{"does not take the client's address by xclient", "smtpd_authorized_xclient_hosts", "greeting:"}},
		"backend refuses strangers": {func(w *world) {
			w.back.Answer = func(_ *backendtest.Session, line string) string {
				if strings.HasPrefix(line, "EHLO gatepost-probe") {
					return "554 5.7.1 go away"
				}
				return ""
			}
		}, "backend", Error, []string{"554 5.7.1 go away", "let strangers connect"}},
		"open relay": {func(w *world) { w.back.Relay = append(w.back.Relay, netip.MustParsePrefix("0.0.0.0/0")) },
			"backend", Error, []string{"OPEN RELAY", "192.0.2.1", "MAIL FROM:<>", "mynetworks"}},
		"open relay, check off": {func(w *world) {
			w.back.Relay = append(w.back.Relay, netip.MustParsePrefix("0.0.0.0/0"))
			w.way += ", relay_check: off"
		}, "backend", Error, []string{"OPEN RELAY"}},
		"check off": {func(w *world) { w.way += ", relay_check: off" }, "backend", Warning, []string{"relay_check", "is off"}},
		"open relay by PROXY": {func(w *world) {
			w.way, w.back.Proxy = "proxy-v2", backendtest.ProxyV2
			w.back.Relay = append(w.back.Relay, netip.MustParsePrefix("0.0.0.0/0"))
		}, "backend", Error, []string{"OPEN RELAY"}},
		"open relay for own senders": {func(w *world) {
			w.back.Answer = func(s *backendtest.Session, line string) string {
				if strings.HasPrefix(line, "RCPT") && strings.Contains(s.From, "@example.org") {
					return "250 2.1.5 Ok"
				}
				return ""
			}
		}, "backend", Error, []string{"OPEN RELAY", "MAIL FROM:<postmaster@example.org>"}},
		"address does not arrive": {func(w *world) {
			w.back.Answer = func(s *backendtest.Session, line string) string {
				if strings.HasPrefix(line, "EHLO gatepost-probe") {
					return "250-back.test Hello gatepost-probe.invalid [127.0.0.1], pleased to meet you\r\n250 PIPELINING"
				}
				return ""
			}
		}, "backend", Error, []string{"does not see the address", "127.0.0.1", "handed over: 192.0.2.1"}},
		"address seen": {func(w *world) {
			w.back.Answer = func(s *backendtest.Session, line string) string {
				if strings.HasPrefix(line, "EHLO gatepost-probe") {
					return "250-back.test Hello gatepost-probe.invalid [192.0.2.1], pleased to meet you\r\n250 PIPELINING"
				}
				return ""
			}
		}, "backend", OK, []string{"sees the client's address"}},
		"relaying not known": {func(w *world) {
			w.back.Answer = func(_ *backendtest.Session, line string) string {
				if strings.HasPrefix(line, "MAIL") {
					return "451 4.3.0 later"
				}
				return ""
			}
		}, "backend", Error, []string{"not known whether it relays", "later"}},
		"own senders refused": {func(w *world) {
			w.back.Answer = func(_ *backendtest.Session, line string) string {
				if strings.HasPrefix(line, "MAIL FROM:<postmaster@example.org>") {
					return "550 5.7.1 not from outside"
				}
				return ""
			}
		}, "backend", OK, []string{"refuses senders of its own domain", "not from outside"}},
		"none": {func(w *world) { w.way = "none" }, "backend", Notice, []string{"cannot tell clients apart", "example.org"}},
		"none and everybody trusted": {func(w *world) { w.way, w.config = "none", "trusted: [192.0.0.0/4]" },
			"backend", Error, []string{"open relay", "192.0.0.0/4"}},
		"everybody trusted": {func(w *world) { w.config = "trusted: [0.0.0.0/0]" }, "config", Error, []string{"0.0.0.0/0", "is everybody"}},
		"escape sequences":  {func(w *world) { w.back.Greeting = "220 back.test \x1b[2Jhi" }, "backend", OK, []string{"back.test ?[2Jhi"}},

		"no address": {func(w *world) { w.zone = strings.ReplaceAll(w.zone, "mx.example.org. A", "my.example.org. A") },
			"names", Warning, []string{"mx.example.org", "has no address"}},
		"behind NAT": {func(w *world) { w.machine.addresses = addresses("203.0.113.9") },
			"names", Notice, []string{"not this machine's own"}},
		"no MX": {func(w *world) { w.zone = strings.Replace(w.zone, "example.org. MX", "example.net. MX", 1) },
			"names", Warning, []string{"has no MX record", "example.org. MX 10 mx.example.org."}},
		"foreign MX": {func(w *world) {
			w.zone = strings.Replace(w.zone, "MX 10 mx.example.org.", "MX 10 mx.example.net.\nmx.example.net. A 203.0.113.7", 1)
		},
			"names", Warning, []string{"no MX record leads to this machine", "mx.example.net"}},

		"no certificate": {func(w *world) { w.config = "listen: [{address: \"127.0.0.1:2\"}]" },
			"certificates", Warning, []string{"has no certificate"}},
		"certificate missing": {func(w *world) {
			w.config = "listen: [{address: \"127.0.0.1:2\", certificate: none.pem, key: key.pem}]"
		}, "certificates", Error, []string{"none.pem", "cannot be used"}},
		"certificate expired":  {func(w *world) { w.certificate(pairOptions{names: mx, days: -1}) }, "certificates", Error, []string{"has expired"}},
		"certificate ending":   {func(w *world) { w.certificate(pairOptions{names: mx, days: 2}) }, "certificates", Error, []string{"expires in 2 days"}},
		"certificate near end": {func(w *world) { w.certificate(pairOptions{names: mx, days: 14}) }, "certificates", Warning, []string{"expires in 14 days"}},
		"certificate from the future": {func(w *world) { w.machine.now = func() time.Time { return time.Now().Add(-2000 * time.Hour) } },
			"certificates", Error, []string{"is not valid yet", "clock"}},
		"certificate for another": {func(w *world) { w.certificate(pairOptions{names: []string{"www.example.org"}, days: 60}) },
			"certificates", Warning, []string{"no certificate is for mx.example.org"}},
		"certificate not for an MX": {func(w *world) { w.zone += "\nexample.org. MX 20 b.example.org.\nb.example.org. A 192.0.2.25" },
			"certificates", Warning, []string{"no certificate is for b.example.org"}},
		"certificate of its own": {func(w *world) { w.certificate(pairOptions{names: mx, days: 60, alone: true}) },
			"certificates", Warning, []string{"it has signed itself"}},
		"chain missing": {func(w *world) { w.machine.roots = newPair(w.t, pairOptions{days: 1}).roots },
			"certificates", Warning, []string{"are missing in the file"}},

		"few descriptors": {func(w *world) { w.machine.openFiles = func(string) (uint64, error) { return 1024, nil } },
			"limits", Warning, []string{"1024 are too few", "LimitNOFILE"}},
		"descriptors unknown": {func(w *world) { w.machine.openFiles = func(string) (uint64, error) { return 0, errUnknown } },
			"limits", Notice, []string{"not known"}},
		"little memory": {func(w *world) { w.machine.memory = func() (uint64, error) { return 256 << 20, nil } },
			"limits", Warning, []string{"256 MiB", "limits.memory"}},
		"no clock":    {func(w *world) { w.machine.now = func() time.Time { return time.Unix(0, 0) } }, "clock", Error, []string{"1970", "NTP"}},
		"loose clock": {func(w *world) { w.machine.synchronised = func() (bool, error) { return false, nil } }, "clock", Warning, []string{"chrony"}},

		"marks set aside": {func(w *world) { w.makeFolder("state/marks.corrupt-20261122T104500Z") }, "folders", Warning,
			[]string{"store.path", "set aside", "marks.corrupt-20261122T104500Z", "gatepost state import"}},
		"a journal set aside": {func(w *world) { w.makeFolder("journal/000000000001-20261122T104500Z.journal.corrupt-20261122T104500Z") }, "folders", Warning,
			[]string{"journal.path", "set aside"}},
		"a message set aside": {func(w *world) { w.makeFolder("state/quarantine/damaged/38G29KFPR000V.1") }, "folders", Warning,
			[]string{"quarantine.path", "38G29KFPR000V.1"}},
		"state for all": {func(w *world) { w.mode("state", 0o755) }, "folders", Warning, []string{"can be used by others", "chmod 0700"}},
		"state missing": {func(w *world) {
			os.Remove(filepath.Join(w.folder, "state"))
			w.machine.writable = func(string) error { return os.ErrPermission }
		}, "folders", Warning, []string{"is missing", "install -d"}},
		"state not writable": {func(w *world) { w.machine.writable = func(string) error { return os.ErrPermission } },
			"folders", Error, []string{"store.path", "cannot be written to"}},
		"state not for the owner": {func(w *world) { w.mode("state", 0o500) }, "folders", Error, []string{"its owner cannot write", "chmod u+rwx"}},
		"state a file": {func(w *world) { os.Remove(filepath.Join(w.folder, "state")); w.write("state", "", 0o600) },
			"folders", Error, []string{"is not a folder"}},
		"disk full": {func(w *world) {
			w.machine.space = func(string) (uint64, uint64, error) { return 1 << 20, 1 << 40, nil }
		},
			"folders", Error, []string{"all but full"}},
		"disk nearly full": {func(w *world) {
			w.machine.space = func(string) (uint64, uint64, error) { return 500 << 20, 1 << 40, nil }
		},
			"folders", Warning, []string{"nearly full"}},
		"small disk": {func(w *world) {
			w.machine.space = func(string) (uint64, uint64, error) { return 2 << 30, 3 << 30, nil }
		},
			"folders", Warning, []string{"journal.size"}},

		"nobody listens":  {func(w *world) { w.greet = "" }, "ports", Warning, []string{"nobody listens", "systemctl start gatepost"}},
		"another listens": {func(w *world) { w.greet = "220 mail.example.org ESMTP Postfix" }, "ports", Error, []string{"another program", "Postfix", "gatepost init"}},
		"turned away":     {func(w *world) { w.greet = "554 5.7.1 no" }, "ports", Warning, []string{"turns this machine away"}},

		"runs as root": {func(w *world) { w.rights(rights{noNewPrivileges: true}) }, "rights", Warning, []string{"is root", "user: gatepost"}},
		"keeps a capability": {func(w *world) { w.rights(rights{user: 990, capabilities: 1 << 13, noNewPrivileges: true}) },
			"rights", Warning, []string{"no use for", "CapEff 0000000000002000"}},
		"may gain rights": {func(w *world) { w.rights(rights{user: 990}) }, "rights", Warning, []string{"setuid", "NoNewPrivs 0"}},
		"does not run": {func(w *world) { w.machine.rights = func(string) (rights, error) { return rights{}, errUnknown } },
			"rights", OK, []string{"no gatepost runs"}},
		"confine off":  {func(w *world) { w.config = "confine: off" }, "rights", Notice, []string{"user's rights alone", "confine: off"}},
		"an old linux": {func(w *world) { w.machine.confines = func() bool { return false } }, "rights", Notice, []string{"no Landlock"}},

		"admin off":       {func(w *world) { w.config = "admin: off" }, "admin", OK, []string{"no admin pages"}},
		"admin for all":   {func(w *world) { w.admin("0.0.0.0:8025") }, "admin", Warning, []string{"from everywhere", "ssh -L"}},
		"admin for some":  {func(w *world) { w.admin("10.0.0.1:8025") }, "admin", OK, []string{"local network"}},
		"admin protected": {func(w *world) { w.admin("127.0.0.1:8025") }, "admin", OK, []string{"with a password"}},
		"secrets for all": {func(w *world) { w.admin("127.0.0.1:8025"); w.machine.stat = loose }, "config", Warning, []string{"can read its secrets", "chmod 0640"}},
		"key for all":     {func(w *world) { w.machine.stat = loose }, "certificates", Warning, []string{"can read the private key", "chmod o-rwx"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.breaks(w)
			r := w.examine()
			want(t, r, c.check, c.severity, c.parts...)
			if r.Worst < c.severity {
				t.Errorf("worst is %s", r.Worst)
			}
		})
	}
}

func (w *world) rights(r rights) { w.machine.rights = func(string) (rights, error) { return r, nil } }

var mx = []string{"mx.example.org"}

func (w *world) certificate(o pairOptions) {
	w.pair = newPair(w.t, o)
	w.machine.roots = w.pair.roots
}

func (w *world) mode(name string, mode os.FileMode) {
	if err := os.Chmod(filepath.Join(w.folder, name), mode); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.Chmod(filepath.Join(w.folder, name), 0o700) })
}

func (w *world) admin(address string) {
	const hash = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	w.config = "admin: {address: \"" + address + "\", certificate: cert.pem, key: key.pem, password: \"" + hash + "\"}"
}

// loose shows every file as one that all may read.
func loose(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() {
		return info, err
	}
	return forAll{info}, nil
}

type forAll struct{ os.FileInfo }

func (f forAll) Mode() os.FileMode { return f.FileInfo.Mode() | 0o004 }

func addresses(texts ...string) func() ([]netip.Addr, error) {
	var list []netip.Addr
	for _, t := range texts {
		list = append(list, netip.MustParseAddr(t))
	}
	return func() ([]netip.Addr, error) { return list, nil }
}

func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A listener on every address is tried on loopback and on one address of each family.
func TestTargets(t *testing.T) {
	w := newWorld(t)
	w.machine.addresses = addresses("127.0.0.1", "192.0.2.25", "192.0.2.26", "::1", "fe80::1", "2001:db8::25")
	x := &examiner{machine: w.machine}
	for listen, want := range map[string]string{
		":25":           "127.0.0.1:25 192.0.2.25:25 [2001:db8::25]:25",
		"0.0.0.0:25":    "127.0.0.1:25 192.0.2.25:25",
		"192.0.2.26:25": "192.0.2.26:25",
	} {
		var got []string
		for _, a := range x.targets(listener(listen)) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", listen, got, want)
		}
	}
}

// All ends when the context does, with a finding for what is not known.
func TestBoundedInTime(t *testing.T) {
	w := newWorld(t)
	w.back.Greeting = backendtest.Stall
	w.machine.space = func(string) (uint64, uint64, error) { return 0, 0, errors.New("no idea") }
	start := time.Now()
	r := w.examineWithin(700 * time.Millisecond)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	want(t, r, "backend", Error, "no answer in time")
	want(t, r, "folders", Notice, "no idea")
}

func TestThisMachine(t *testing.T) {
	m := thisMachine()
	if all, err := m.addresses(); err != nil || len(all) == 0 {
		t.Errorf("addresses %v, %v", all, err)
	}
	if n, err := m.openFiles(""); err != nil || n == 0 {
		t.Errorf("open files %d, %v", n, err)
	}
	if free, total, err := m.space(t.TempDir()); err != nil || total == 0 || free > total {
		t.Errorf("space %d of %d, %v", free, total, err)
	}
	if n, err := m.memory(); err != nil && !errors.Is(err, errUnknown) || err == nil && n < 1<<20 {
		t.Errorf("memory %d, %v", n, err)
	}
	if err := m.writable(t.TempDir()); err != nil {
		t.Errorf("writable: %v", err)
	}
	if _, err := m.openFiles(filepath.Join(t.TempDir(), "nobody")); err == nil {
		t.Error("a process that is not there has a limit")
	}
}
