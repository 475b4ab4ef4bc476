package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"gatepost/filters/all"
	"gatepost/proxy"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a machine and its surroundings in which all is well until a test changes something.
type world struct {
	t       *testing.T
	folder  string
	machine machine
	zone    string // records, one a line
	answer  func(network string, q *dns.Msg, reply *dns.Msg) *dns.Msg
	back    backendtest.Behaviour
	greet   string // what is said on the port of the listener; empty: nobody listens
	config  string // added to the configuration
	backend string // in place of the backend's address
	way     string
	domains string
	pair    pair
}

const records = `example.org. MX 10 mx.example.org.
mx.example.org. A 192.0.2.25
2.0.0.127.bl.test. A 127.0.0.2`

func newWorld(t *testing.T) *world {
	w := &world{t: t, folder: t.TempDir(), zone: records, greet: "220 mx.example.org ESMTP", way: "xclient", domains: "[example.org]",
		back: backendtest.Behaviour{Domains: []string{"example.org"}, Relay: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	w.machine = machine{
		now:          time.Now,
		stat:         os.Stat,
		owner:        func(fs.FileInfo) string { return "gatepost" },
		writable:     func(string) error { return nil },
		space:        func(string) (uint64, uint64, error) { return 50 << 30, 100 << 30, nil },
		rights:       func(string) (rights, error) { return rights{user: 990, noNewPrivileges: true, seccomp: true}, nil },
		confines:     func() bool { return true },
		openFiles:    func(socket string) (uint64, error) { return 65536, nil },
		memory:       func() (uint64, error) { return 4 << 30, nil },
		synchronised: func() (bool, error) { return true, nil },
		addresses:    func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("192.0.2.25")}, nil },
	}
	w.pair = newPair(t, pairOptions{names: []string{"mx.example.org"}, days: 60})
	w.machine.roots = w.pair.roots
	for _, name := range []string{"state", "journal"} {
		if err := os.Mkdir(filepath.Join(w.folder, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// examine runs all checks.
func (w *world) examine() Report { return w.examineWithin(20 * time.Second) }

func (w *world) examineWithin(patience time.Duration) Report {
	w.t.Helper()
	resolver, listen := w.serveDNS(), w.listen()
	if w.backend == "" {
		s, err := backendtest.Start(w.back)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(s.Close)
		w.backend = s.Address()
	}
	text := "hostname: mx.example.org\ndomains: " + w.domains + "\nbackend: {address: \"" + w.backend + "\", client_address: " + w.way + "}\n" +
		"resolver: {servers: [\"" + resolver + "\"], timeout: 500ms, attempt: 400ms}\n" +
		"store: {path: state}\njournal: {path: journal}\n" +
		"listen: [{address: \"" + listen + "\", certificate: cert.pem, key: key.pem}]\n" +
		"filters: {dnsbl: {zones: [{zone: bl.test, ipv6: off, codes: {127.0.0.2: 4}}]}}\n"
	w.write("cert.pem", w.pair.certificate, 0o644)
	w.write("key.pem", w.pair.key, 0o600)
	file := w.write("gatepost.yaml", merge(text, w.config), 0o640)
	c, problems := config.Load(file, all.Specs())
	if c == nil {
		w.t.Fatal(problems)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	return examine(ctx, Options{File: file, Config: c, Warnings: problems}, w.machine)
}

// merge puts lines in the place of those with the same key.
func merge(text, more string) string {
	for line := range strings.Lines(more) {
		key, _, _ := strings.Cut(line, ":")
		var kept strings.Builder
		for l := range strings.Lines(text) {
			if !strings.HasPrefix(l, key+":") {
				kept.WriteString(l)
			}
		}
		text = kept.String() + strings.TrimSuffix(line, "\n") + "\n"
	}
	return text
}

func (w *world) write(name, content string, mode fs.FileMode) string {
	path := filepath.Join(w.folder, name)
	if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// makeFolder makes a folder, and those above it.
func (w *world) makeFolder(name string) {
	if err := os.MkdirAll(filepath.Join(w.folder, name), 0o700); err != nil {
		w.t.Fatal(err)
	}
}

// want checks that a finding of this check and severity says all the parts somewhere.
func want(t *testing.T, r Report, check string, s Severity, parts ...string) {
	t.Helper()
	for _, f := range r.Findings {
		text, has := strings.Join([]string{f.Subject, f.Message, f.Evidence, f.Remedy}, " | "), true
		for _, p := range parts {
			has = has && strings.Contains(text, p)
		}
		if f.Check == check && f.Severity == s && has {
			if s > Notice && f.Remedy == "" && f.Evidence == "" {
				t.Errorf("%+v has neither evidence nor remedy", f)
			}
			return
		}
	}
	t.Errorf("no %s of %s says %q:\n%s", s, check, parts, list(r))
}

func list(r Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		b.WriteString(f.Severity.String() + " " + f.Check + ": " + f.Subject + ": " + f.Message + " [" + f.Evidence + "] {" + f.Remedy + "}\n")
	}
	return b.String()
}

// serveDNS answers out of w.zone, as w.answer changes it.
func (w *world) serveDNS() string {
	var all []dns.RR
	for line := range strings.Lines(w.zone) {
		rr, err := dns.NewRR(strings.TrimSpace(line))
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, rr)
	}
	handle := dns.HandlerFunc(func(out dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		reply.RecursionAvailable, reply.AuthenticatedData = true, true
		question := q.Question[0]
		if question.Name != "arpa." {
			reply.Rcode = dns.RcodeNameError
		}
		for _, rr := range all {
			if strings.EqualFold(rr.Header().Name, question.Name) {
				reply.Rcode = dns.RcodeSuccess
				if rr.Header().Rrtype == question.Qtype {
					reply.Answer = append(reply.Answer, rr)
				}
			}
		}
		if w.answer != nil {
			reply = w.answer(out.LocalAddr().Network(), q, reply)
		}
		if reply != nil {
			out.WriteMsg(reply)
		}
	})
	tcp, udp := bothPorts(w.t)
	var running sync.WaitGroup
	w.t.Cleanup(running.Wait)
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: handle}, {Listener: tcp, Handler: handle}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		running.Go(func() { s.ActivateAndServe() })
		<-started
		w.t.Cleanup(func() { s.Shutdown() })
	}
	return udp.LocalAddr().String()
}

func bothPorts(t *testing.T) (net.Listener, net.PacketConn) {
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if udp, err := net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			return tcp, udp
		}
		tcp.Close()
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}

// listen stands in for the running gatepost.
func (w *world) listen() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	if w.greet == "" {
		l.Close()
		return l.Addr().String()
	}
	var running sync.WaitGroup
	w.t.Cleanup(func() { l.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte(w.greet + "\r\n"))
			c.Close()
		}
	})
	return l.Addr().String()
}

func listener(address string) proxy.Listen { return proxy.Listen{Address: address} }

// pair is a certificate with its key, in PEM, and who vouches for it.
type pair struct {
	certificate, key string
	roots            *x509.CertPool
}

type pairOptions struct {
	names []string
	days  int // it is good for
	alone bool
}

// newPair makes a certificate that an authority has signed, or if alone itself.
func newPair(t *testing.T, o pairOptions) pair {
	t.Helper()
	template := func(name string, until time.Time) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: until}
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	authority, authorityKey := template("the authority", time.Now().Add(9999*time.Hour)), newKey()
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	signed, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, key := template("a leaf", time.Now().Add(time.Duration(o.days)*24*time.Hour+time.Hour)), newKey()
	leaf.DNSNames = o.names
	issuer, issuerKey := authority, authorityKey
	if o.alone {
		issuer, issuerKey = leaf, key
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := pair{roots: x509.NewCertPool()}
	p.roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}))
	p.certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	p.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return p
}
