package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/config"
)

// writePair makes a certificate and its key in one file.
func writePair(t *testing.T, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A configuration that is refused for its certificate leaves nothing behind: the old one serves on, and the end comes when
// it is asked for.
func TestReloadRefusedForItsCertificate(t *testing.T) {
	mta, err := backendtest.Start(backendtest.Behaviour{})
	if err != nil {
		t.Fatal(err)
	}
	defer mta.Close()
	folder := t.TempDir()
	file, pair := filepath.Join(folder, "gatepost.yaml"), filepath.Join(folder, "mx.pem")
	write := func(more string) {
		text := fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nbackend: {address: %s%s}\nstore: {path: %s}\nadmin: off\n"+
			"listen:\n  - {address: \"127.0.0.1:0\", certificate: %s, implicit_tls: on, submission: on}\n", mta.Address(), more, folder, pair)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	writePair(t, pair)
	c, problems := config.Load(file, all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	log := slog.New(slog.DiscardHandler)
	h, err := build(file, c, log, filters.SystemClock{}, newRecorder(log))
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := bind(context.Background(), c.Listen, nil)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(context.Background(), sockets...) }()
	h.awaitBackend(t.Context())
	client, err := tls.Dial("tcp", sockets[0].Addr().String(), &tls.Config{InsecureSkipVerify: true}) // it serves now
	if err != nil {
		t.Fatal(err)
	}
	client.Close()

	before := h.force.backends
	if before.submission == nil {
		t.Error("no backend for submission")
	}
	if err := os.WriteFile(pair, []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, more := range []string{"", ", hold: 30s"} { // with the backends of before, and with others
		write(more)
		if err := h.reload(); err == nil {
			t.Error("a broken certificate is taken")
		}
		if h.force.backends != before || h.force.config != c {
			t.Error("the old configuration is not in force")
		}
	}
	writePair(t, pair)
	if err := h.reload(); err != nil {
		t.Error(err)
	}
	if h.force.backends == before {
		t.Error("the new configuration is not in force")
	}
	if !h.force.backends.group.Seen() || !h.force.backends.submission.Seen() {
		t.Error("the new backends have not been asked: the next clients are sent away")
	}
	ended := make(chan error, 1)
	go func() { ended <- h.shutdown(t.Context()) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("shutdown hangs")
	}
	<-served
}
