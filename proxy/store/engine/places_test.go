package engine_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store/engine"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/storetest"
)

// certificate writes a self-signed certificate for 127.0.0.1 and returns the names of its files.
func certificate(t *testing.T) (chain, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "store.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("chain.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8)
}

func TestPasswordAndTLS(t *testing.T) {
	chain, key := certificate(t)
	pair, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	s := redistest.Start(t, redistest.Options{
		Password: "kept secret",
		TLS:      &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}},
		Lines:    []string{"tls-cert-file " + chain, "tls-key-file " + key, "tls-ca-cert-file " + chain, "tls-auth-clients yes"},
	})
	good := config(s.Address)
	good.PasswordFile = filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(good.PasswordFile, []byte("kept secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good.TLS, good.CA, good.Certificate, good.Key = true, chain, chain, key
	e := open(t, good, filters.SystemClock{})
	must(e.Attempt(t.Context(), "greylist", keys, storetest.Terms))(t)

	for name, bad := range map[string]func(){
		"no password":        func() { good.PasswordFile = "" },
		"no such file":       func() { good.PasswordFile += ".not" },
		"unknown authority":  func() { good.CA = "" },
		"another name":       func() { good.ServerName = "mx.example.net" },
		"no own certificate": func() { good.Certificate, good.Key = "", "" },
		"no TLS":             func() { good.TLS = false },
	} {
		kept := good
		bad()
		if e, err := engine.Open(good, filters.SystemClock{}); err == nil {
			err = e.Probe(t.Context(), "")
			e.Close()
			if err == nil {
				t.Errorf("%s: it can be used", name)
			}
		} else if strings.Contains(err.Error(), "kept secret") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
		good = kept
	}
}

func TestAMovedSlot(t *testing.T) {
	ctx := t.Context()
	nodes := redistest.StartCluster(t, 2)
	c := config(redistest.Addresses(nodes)...)
	c.Cluster = true
	e := open(t, c, filters.SystemClock{})
	must(e.Attempt(ctx, "greylist", keys, storetest.Terms))(t)
	slot := nodes[0].Must("CLUSTER", "KEYSLOT", "gp1g{example.org}d:")
	if other := nodes[0].Must("CLUSTER", "KEYSLOT", "gp1g{example.org}n:192.0.2.0/24|alice@"); other != slot {
		t.Fatalf("the keys of one domain are in slots %s and %s", slot, other)
	}
	from, to := nodes[0], nodes[1]
	if n, _ := strconv.Atoi(slot); n >= redistest.Slots/2 {
		from, to = to, from
	}
	attempts := 1
	again := func(when string) {
		t.Helper()
		attempts++
		marks, err := e.Attempt(ctx, "greylist", keys, storetest.Terms)
		if err != nil || marks[0].Attempts != uint32(attempts) || marks[1].Attempts != uint32(attempts) {
			t.Fatalf("%s: %v, %v", when, marks, err)
		}
	}
	fromID, toID := from.Must("CLUSTER", "MYID"), to.Must("CLUSTER", "MYID")
	to.Must("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Must("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	again("before its keys move")
	host, port, _ := net.SplitHostPort(to.Address)
	from.Must("MIGRATE", host, port, "", "0", "5000", "KEYS", "gp1g{example.org}d:", "gp1g{example.org}n:192.0.2.0/24|alice@")
	again("while the slot is between two nodes")
	to.Must("CLUSTER", "SETSLOT", slot, "NODE", toID)
	from.Must("CLUSTER", "SETSLOT", slot, "NODE", toID)
	again("after the slot has moved")
	redistest.Eventually(t, 5*time.Second, func() error {
		if m := must(e.Peek(ctx, "greylist", keys))(t); m[0].Attempts != uint32(attempts) {
			return fmt.Errorf("read %v", m[0])
		}
		return nil
	})
}

// TestWhatAKnownSenderCosts holds what the server allocates for a mark. Its tables take some more: see docs/shared-state.md.
func TestWhatAKnownSenderCosts(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	e := open(t, config(s.Address), filters.SystemClock{})
	if err := e.Pass(t.Context(), "greylist", []string{"n:192.0.2.0/24|alice@example.org"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	const name = "gp1g{example.org}n:192.0.2.0/24|alice@"
	if size, err := strconv.Atoi(s.Must("MEMORY", "USAGE", name)); err != nil || size > 144 {
		t.Errorf("a known sender takes %d bytes, %v", size, err)
	}
	if n := len(name) + len(s.Must("GET", name)); n > 80 {
		t.Errorf("key and value have %d bytes", n)
	}
	before := used(t, s)
	const senders = 20_000
	for start := 0; start < senders; start += 500 {
		var batch []string
		for i := range 500 {
			n := start + i
			batch = append(batch, fmt.Sprintf("n:198.%d.%d.0/24|user%05d@mail%04d.example", n/256%256, n%256, n, n%5000))
		}
		if err := e.Pass(t.Context(), "greylist", batch, 35*24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d known senders take %d bytes each, tables included", senders, (used(t, s)-before)/senders)
}

func used(t *testing.T, s *redistest.Server) int {
	t.Helper()
	for line := range strings.SplitSeq(s.Must("INFO", "memory"), "\r\n") {
		if text, ok := strings.CutPrefix(line, "used_memory:"); ok {
			return must(strconv.Atoi(text))(t)
		}
	}
	t.Fatal(errors.New("the server does not tell its memory"))
	return 0
}
