package engine_test

import (
	"context"
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

	"github.com/redis/rueidis"

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
	slot := nodes[0].Must("CLUSTER", "KEYSLOT", ownKey(keys[0]))
	if other := nodes[0].Must("CLUSTER", "KEYSLOT", ownKey(keys[1])); other != slot {
		t.Fatalf("the keys of one domain are in slots %s and %s", slot, other)
	}
	from, to := nodes[0], nodes[1]
	if n, _ := strconv.Atoi(slot); n >= redistest.Slots/2 {
		from, to = to, from
	}
	fromID, toID := from.Must("CLUSTER", "MYID"), to.Must("CLUSTER", "MYID")
	to.Must("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Must("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	// While a slot is on its way, no node decides about keys of which some are missing: it asks to try again (TRYAGAIN). The
	// client does, until time is up. Nothing else goes wrong, and what succeeds counts once.
	made := uint32(1)
	again := func() {
		bounded, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		marks, err := e.Attempt(bounded, "greylist", keys, storetest.Terms)
		var told *rueidis.RedisError
		switch {
		case err == nil:
			made++
			if marks[0].Attempts != made || marks[1].Attempts != made {
				t.Errorf("between two nodes a mark was lost: %v", marks)
			}
		case errors.Is(err, context.DeadlineExceeded), errors.As(err, &told) && told.IsTryAgain():
		default:
			t.Errorf("between two nodes: %v", err)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("a decision took %s", took)
		}
	}
	again()
	host, port, _ := net.SplitHostPort(to.Address)
	from.Must("MIGRATE", host, port, "", "0", "5000", "KEYS", ownKey(keys[0]), ownKey(keys[1]))
	again()
	to.Must("CLUSTER", "SETSLOT", slot, "NODE", toID)
	from.Must("CLUSTER", "SETSLOT", slot, "NODE", toID)
	redistest.Eventually(t, 5*time.Second, func() error {
		bounded, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		marks, err := e.Attempt(bounded, "greylist", keys, storetest.Terms)
		if err == nil && (marks[0].Attempts != made+1 || marks[1].Attempts != made+1) {
			t.Fatalf("after the slot has moved, and %d attempts: %v", made, marks)
		}
		return err
	})
}

// TestWhatAKnownSenderCosts holds what docs/shared-state.md says of memory, tables of the server included.
func TestWhatAKnownSenderCosts(t *testing.T) {
	const senders = 100_000
	for kind, key := range map[string]func(i int) (space, key string){
		"known": func(i int) (space, key string) {
			return "known", fmt.Sprintf("s:user%05d@mail%05d.example", i%100_000, i*7919%60_000)
		},
		// Some keys are so long that they are not put into a hash.
		"greylisted": func(i int) (space, key string) {
			if i%20 == 0 {
				return "greylist", fmt.Sprintf("n:2001:db8:%x:%x::/64|bounces+%d@mail%05d.long-enough.example", i>>16, i&0xffff, i, i*7919%60_000)
			}
			return "greylist", fmt.Sprintf("n:198.%d.%d.0/24|user%05d@mail%05d.example", i/256%256, i%256, i%100_000, i*7919%60_000)
		},
	} {
		s := redistest.Start(t, redistest.Options{})
		e := open(t, config(s.Address), filters.SystemClock{})
		before := number(t, s, "memory", "used_memory")
		for start := 0; start < senders; start += 2000 {
			batch, space := make([]string, 2000), ""
			for i := range batch {
				space, batch[i] = key(start + i)
			}
			if err := e.Pass(t.Context(), space, batch, 35*24*time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		each := (number(t, s, "memory", "used_memory") - before) / senders
		t.Logf("%d %s senders take %d bytes each", senders, kind, each)
		if each > 120 {
			t.Errorf("a %s sender takes %d bytes", kind, each)
		}
	}
}

// number is a line of what the server tells of itself.
func number(t *testing.T, s *redistest.Server, section, name string) int {
	t.Helper()
	for line := range strings.SplitSeq(s.Must("INFO", section), "\r\n") {
		if text, ok := strings.CutPrefix(line, name+":"); ok {
			return must(strconv.Atoi(text))(t)
		}
	}
	t.Fatalf("the server does not tell %s", name)
	return 0
}
