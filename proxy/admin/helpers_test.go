package admin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "correct horse"

// cheap is the hash of password at the least cost there is.
func cheap() string {
	h := hash{memory: 8, passes: 1, lanes: 1, salt: []byte("saltsalt")}
	h.derived = h.derive(password, 16)
	return h.String()
}

// running is a server and a client for it.
type running struct {
	t      *testing.T
	server *Server
	clock  *filtertest.Clock
	client *http.Client
	base   string
	log    *logText
	ready  []string
	house  *fakeHouse
	stop   func() // ends it and waits
}

// logText is safe for concurrent use.
type logText struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs a server until the test ends.
func start(t *testing.T, c Config, more func(*Server)) *running {
	t.Helper()
	v := &running{t: t, clock: filtertest.NewClock(), log: &logText{}, house: &fakeHouse{}}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "one", Help: "One."}, func() float64 { return 1 }))
	c.Address = "127.0.0.1:0"
	server, err := New(Options{Config: c, Hostname: "mx.example.org", Version: "v1", Log: slog.New(slog.NewTextHandler(v.log, nil)), Clock: v.clock,
		Metrics: registry, Ready: func() []string { return v.ready }, House: v.house, Traffic: NewTraffic()})
	if err != nil {
		t.Fatal(err)
	}
	v.server = server
	if more != nil {
		more(server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); server.Run(ctx) }()
	v.stop = func() { cancel(); <-ended }
	t.Cleanup(v.stop)
	for deadline := time.Now().Add(10 * time.Second); server.Addr() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not listen")
		}
	}
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(transport.CloseIdleConnections)
	v.client = &http.Client{Transport: transport, Jar: jar, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	scheme := "http://"
	if c.Certificate != "" {
		scheme = "https://"
	}
	v.base = scheme + server.Addr().String()
	return v
}

// do sends a request; change may be nil.
func (v *running) do(method, path, body string, change func(*http.Request)) (*http.Response, string) {
	v.t.Helper()
	r, err := http.NewRequest(method, v.base+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if change != nil {
		change(r)
	}
	response, err := v.client.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return response, string(text)
}

func (v *running) get(path string) (int, string) {
	v.t.Helper()
	response, text := v.do("GET", path, "", nil)
	return response.StatusCode, text
}

// secured is a configuration with a certificate and the password.
func secured(t *testing.T) Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "both.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{Certificate: file, Key: file, Password: filters.NewSecret(cheap())}
}
