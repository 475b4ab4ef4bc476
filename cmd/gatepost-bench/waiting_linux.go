package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gatepost/cmd/gatepost-bench/load"
)

// waitKey is what -only calls the memory of waiting clients.
const waitKey = "wait"

// waitingPlace is a point of the dialogue at which clients wait.
type waitingPlace struct {
	title string
	rules string
	tls   bool
	share int // of all the clients that are asked for: one in so many
	greet func(*load.Client) error
	// serve is what they say in the end, to show that they are still served.
	serve func(*load.Client) error
	goal  float64 // bytes
}

// patientNetwork is where those clients are from whom slow rules are for: others warm the process up.
const patientNetwork = "127.1.0.0/16"

func slowAt(condition string) string {
	return fmt.Sprintf("rules:\n  - {name: tarpit, when: 'in_network(client.ip, %q)%s', then: slow, delay: 60s}\n", patientNetwork, condition)
}

func say(lines ...string) func(*load.Client) error {
	return func(c *load.Client) error {
		for _, line := range lines {
			if err := c.Command(line, 250); err != nil {
				return err
			}
		}
		return c.Command("QUIT", 221)
	}
}

const kib = 1024

var waitingPlaces = []waitingPlace{
	{title: "between commands, relaying", rules: relayRules, share: 1, greet: greetOnly, serve: say("NOOP"), goal: 1.2 * kib},
	{title: "between commands, all filters", rules: fullRules, share: 1, greet: greetOnly, serve: say("NOOP"), goal: 1.2 * kib},
	{title: "before the greeting", rules: relayFilters + slowAt(""), share: 1, greet: func(*load.Client) error { return nil }, goal: 1.2 * kib},
	{title: "in a tarpit behind EHLO", rules: relayFilters + slowAt(" and helo.extended"), share: 1, greet: func(c *load.Client) error {
		if err := c.Expect("the connection", 220); err != nil {
			return err
		}
		return c.Send("EHLO " + clientName)
	}, goal: 1.2 * kib},
	{title: "under TLS", rules: relayRules, tls: true, share: 3, greet: func(c *load.Client) error {
		if err := greetOnly(c); err != nil {
			return err
		}
		return c.StartTLS(clientName)
	}, serve: say("NOOP"), goal: 30 * kib},
}

func greetOnly(c *load.Client) error { return c.Greet(clientName) }

// waiting measures the memory of the process for each client that waits, and again after a burst of load.
func (b *bench) waiting(ctx context.Context) error {
	if !b.wants(waitKey) || !b.hasGatepost() {
		return nil
	}
	for _, place := range waitingPlaces {
		n := b.room(b.waiters / place.share)
		var before, after []float64
		for range min(b.repeats, 2) {
			one, other, err := b.wait(ctx, place, n)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				b.fail("%d clients waiting %s: %v", n, place.title, err)
				continue
			}
			before, after = append(before, one), append(after, other)
		}
		title := fmt.Sprintf("memory of each of %d clients waiting %s", n, place.title)
		b.found(finding{title: title, figures: before, unit: "bytes", goal: goal{place.goal, atMost}})
		b.found(finding{title: title + ", after a burst", figures: after, unit: "bytes", goal: goal{place.goal, atMost}})
		fmt.Fprintf(os.Stderr, "%s: done\n", title)
	}
	return nil
}

// room is how many of n connections this process may hold; the sink's are in it too.
func (b *bench) room(n int) int {
	var limit unix.Rlimit
	const others = 500
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur < uint64(n+others) {
		return max(int(limit.Cur)-others, 1)
	}
	return n
}

func (b *bench) wait(ctx context.Context, place waitingPlace, n int) (before, after float64, err error) {
	r, err := b.start(ctx, gatepost("wait", "Gatepost", func(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
		s := b.settings(folder, addr)
		if place.tls {
			s.Certificate = filepath.Join(folder, "tls.pem")
			if err := writeCertificate(s.Certificate); err != nil {
				return nil, err
			}
		}
		return writeGatepost(s, place.rules)
	}))
	if err != nil {
		return 0, 0, err
	}
	defer r.stop()
	if err := b.burst(ctx, r); err != nil {
		return 0, 0, err
	}
	empty, err := r.process.settle()
	if err != nil {
		return 0, 0, err
	}
	all, err := load.Idle(ctx, patientSources(), r.addr, n, place.greet)
	if err != nil {
		return 0, 0, err
	}
	defer all.Close()
	full, err := r.process.settle()
	if err != nil {
		return 0, 0, err
	}
	if err := b.burst(ctx, r); err != nil {
		return 0, 0, err
	}
	later, err := r.process.settle()
	if err == nil && place.serve != nil {
		err = all.Each(place.serve)
	}
	return float64(full-empty) / float64(n), float64(later-empty) / float64(n), err
}

// burst sends mail for the time of a turn.
func (b *bench) burst(ctx context.Context, r *running) error {
	s := scenarios[0]
	result, err := load.Run(ctx, load.Options{Addr: r.addr, Sources: b.sources, Script: b.script(s), Parallel: s.parallel, Duration: b.time})
	if err == nil && result.Failures != nil {
		err = fmt.Errorf("a burst of mail: %s", result.Failures)
	}
	return err
}

// patientSources are addresses in patientNetwork.
func patientSources() []netip.Addr {
	all := make([]netip.Addr, sources)
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{127, 1, 0, byte(10 + i)})
	}
	return all
}

// writeCertificate writes a certificate of its own with its key.
func writeCertificate(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example.org"}, DNSNames: []string{"mx.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return os.WriteFile(file, text, 0o600)
}
