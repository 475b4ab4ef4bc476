package faulttest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters"
	"gatepost/proxy/resolver"
	"gatepost/proxy/store"
)

// site is what proxies share: resolver, store, and a certificate.
type site struct {
	dns         *dnsServer
	resolver    *resolver.Resolver
	store       *fickleStore
	certificate string
	log         telemetryLog // of resolver and store
}

func newSite(t testing.TB, clock filters.Clock) *site {
	t.Helper()
	s := &site{dns: startDNS(t)}
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	c := resolver.Defaults()
	c.Servers = []string{s.dns.address}
	c.Timeout, c.Attempt = filters.Duration(300*time.Millisecond), filters.Duration(100*time.Millisecond)
	var err error
	if s.resolver, err = resolver.New(c, clock, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.resolver.Close)
	sc := store.Defaults()
	sc.Path = t.TempDir()
	real, err := store.Open(sc, clock, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := real.Close(); err != nil {
			t.Error(err)
		}
	})
	s.store = &fickleStore{Store: real}
	s.certificate = writeCertificate(t)
	return s
}

// dnsServer answers for example.org and knows no other name, or says nothing.
type dnsServer struct {
	address string
	silent  atomic.Bool
	broken  atomic.Bool // answers SERVFAIL
}

func startDNS(t testing.TB) *dnsServer {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{address: udp.LocalAddr().String()}
	known := map[string]string{
		"1.0.0.127.in-addr.arpa. 12": "1.0.0.127.in-addr.arpa. 5 IN PTR client.example.org.",
		"client.example.org. 1":      "client.example.org. 5 IN A 127.0.0.1",
		"example.org. 16":            `example.org. 5 IN TXT "v=spf1 ip4:127.0.0.0/8 -all"`,
	}
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		if s.silent.Load() || len(q.Question) != 1 {
			return
		}
		reply := new(dns.Msg).SetReply(q)
		name := strings.ToLower(q.Question[0].Name)
		reply.Rcode = dns.RcodeNameError
		if s.broken.Load() {
			reply.Rcode = dns.RcodeServerFailure
			w.WriteMsg(reply)
			return
		}
		for key, record := range known {
			owner, qtype, _ := strings.Cut(key, " ")
			if owner != name {
				continue
			}
			reply.Rcode = dns.RcodeSuccess
			if rr, err := dns.NewRR(record); err == nil && qtype == itoa(int(q.Question[0].Qtype)) {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		w.WriteMsg(reply)
	}
	server := &dns.Server{PacketConn: udp, Handler: dns.HandlerFunc(answer)}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	var running sync.WaitGroup
	running.Go(func() { server.ActivateAndServe() })
	<-started
	t.Cleanup(func() {
		server.Shutdown()
		running.Wait()
	})
	return s
}

// fickleStore is the real store while it is in the mood.
type fickleStore struct {
	filters.Store
	fails, hangs atomic.Bool
	calls        atomic.Int64
}

var errFickle = errors.New("the disk is on strike")

func (s *fickleStore) mood(ctx context.Context) error {
	s.calls.Add(1)
	if s.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.fails.Load() {
		return errFickle
	}
	return nil
}

func (s *fickleStore) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	if err := s.mood(ctx); err != nil {
		return nil, err
	}
	return s.Store.Peek(ctx, space, keys)
}

func (s *fickleStore) Attempt(ctx context.Context, space string, keys []string, terms filters.Terms) ([]filters.Mark, error) {
	if err := s.mood(ctx); err != nil {
		return nil, err
	}
	return s.Store.Attempt(ctx, space, keys, terms)
}

func (s *fickleStore) Pass(ctx context.Context, space string, keys []string, keep time.Duration) error {
	if err := s.mood(ctx); err != nil {
		return err
	}
	return s.Store.Pass(ctx, space, keys, keep)
}

func (s *fickleStore) Forget(ctx context.Context, space string, keys []string) (int, error) {
	if err := s.mood(ctx); err != nil {
		return 0, err
	}
	return s.Store.Forget(ctx, space, keys)
}

// fickleSpill counts what is open and can be full.
type fickleSpill struct {
	filters.Spill
	full     atomic.Bool
	noWrites atomic.Bool // ENOSPC
	noReads  atomic.Bool // EIO, but for the first block
	open     atomic.Int64
}

func (s *fickleSpill) Reserve(n int64) bool { return !s.full.Load() && s.Spill.Reserve(n) }

func (s *fickleSpill) Create() (filters.SpillFile, error) {
	f, err := s.Spill.Create()
	if err != nil {
		return nil, err
	}
	s.open.Add(1)
	return &spillFile{f, s}, nil
}

type spillFile struct {
	filters.SpillFile
	spill *fickleSpill
}

func (f *spillFile) WriteAt(p []byte, at int64) (int, error) {
	if f.spill.noWrites.Load() && at > 0 {
		return 0, syscall.ENOSPC
	}
	return f.SpillFile.WriteAt(p, at)
}

func (f *spillFile) ReadAt(p []byte, at int64) (int, error) {
	if f.spill.noReads.Load() && at > 0 {
		return 0, syscall.EIO
	}
	return f.SpillFile.ReadAt(p, at)
}

func (f *spillFile) Close() error {
	f.spill.open.Add(-1)
	return f.SpillFile.Close()
}

// jumpingClock can be set.
type jumpingClock struct{ offset atomic.Int64 }

func (c *jumpingClock) Now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

func (c *jumpingClock) jump(d time.Duration) { c.offset.Store(int64(d)) }

// backendTLS is what backends speak TLS with.
var backendTLS = sync.OnceValue(func() *tls.Config {
	text, err := newCertificate()
	if err != nil {
		panic(err)
	}
	pair, err := tls.X509KeyPair(text, text)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}}
})

func writeCertificate(t testing.TB) string {
	t.Helper()
	text, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "mx.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newCertificate is one that is signed by itself, and its key.
func newCertificate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mx.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...), nil
}
