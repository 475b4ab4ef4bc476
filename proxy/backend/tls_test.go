package backend

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// certificate makes a self-signed one for 127.0.0.1 and the file that trusts it.
func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, file
}

func TestTLS(t *testing.T) {
	config, ca := certificate(t)
	broken := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, os.ErrNotExist }}
	for _, test := range []struct {
		name    string
		mode    TLSMode
		ca      string
		server  *tls.Config
		secured bool
		says    string // of the error; empty: it works
	}{
		{"auto on loopback", TLSAuto, "", config, false, ""},
		{"none", TLSNone, "", config, false, ""},
		{"opportunistic", TLSOpportunistic, "", config, true, ""},
		{"opportunistic, not offered", TLSOpportunistic, "", nil, false, ""},
		{"opportunistic, broken", TLSOpportunistic, "", broken, false, ""},
		{"required", TLSRequired, "", config, true, ""},
		{"required, not offered", TLSRequired, "", nil, false, "STARTTLS is not offered"},
		{"required, broken", TLSRequired, "", broken, false, "check the backend's certificate"},
		{"verified", TLSVerified, ca, config, true, ""},
		{"verified, unknown authority", TLSVerified, "", config, false, "unknown authority"},
	} {
		for _, address := range []ClientAddress{XClient, ProxyV2} {
			t.Run(test.name+" "+string(address), func(t *testing.T) {
				b := backendtest.Behaviour{TLS: test.server}
				if address == ProxyV2 {
					b.Proxy = backendtest.ProxyV2
				}
				s := start(t, b)
				g, _ := newGroup(t, func(c *Config) { c.TLS, c.CA, c.ClientAddress, c.Connections = test.mode, test.ca, address, 1 }, s)
				for range 2 {
					c, err := g.Dial(testContext(t), testClient())
					if test.says != "" {
						wantError(t, err, test.says)
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					transact(t, c, message(strings.Repeat("x", 100_000)+"\r\n"))
					c.Release()
				}
				for _, m := range s.Messages() {
					if m.TLS != test.secured || m.Client != client4 {
						t.Errorf("TLS %v, client %v", m.TLS, m.Client)
					}
				}
				if open := g.servers[0].pool.open; open != len(g.servers[0].pool.idle) {
					t.Errorf("%d open", open)
				}
			})
		}
	}
}

// What is sent in the clear behind the answer to STARTTLS could be an impostor's.
func TestNothingMayFollowTheAnswerToStartTLS(t *testing.T) {
	config, _ := certificate(t)
	s := start(t, backendtest.Behaviour{TLS: config, Answer: answering("STARTTLS", "220 2.0.0 go\r\n250 injected")})
	g, _ := newGroup(t, func(c *Config) { c.TLS = TLSRequired }, s)
	_, err := g.Dial(testContext(t), testClient())
	wantError(t, err, "STARTTLS", "without being asked")
}

func TestKeptTLSConnection(t *testing.T) {
	config, _ := certificate(t)
	s := start(t, backendtest.Behaviour{TLS: config})
	g, _ := newGroup(t, func(c *Config) { c.TLS = TLSRequired }, s)
	for range 3 {
		c := dial(t, g, testClient())
		transact(t, c, message("x\r\n"))
		c.Release()
	}
	if n := len(s.Sessions()); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestUnreadableCA(t *testing.T) {
	c := Default()
	c.Address, c.TLS, c.CA = []string{"h:25"}, TLSVerified, filepath.Join(t.TempDir(), "none")
	if _, err := New(c, Options{}); err == nil || !strings.Contains(err.Error(), "ca: ") {
		t.Error(err)
	}
	os.WriteFile(c.CA, []byte("x"), 0o600)
	if _, err := New(c, Options{}); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Error(err)
	}
}
