package main

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy/config"
)

// The DMARC record is asked for while the body is still on its way, and DKIM waits for it.
func TestTheRecordIsAskedForBesideTheBody(t *testing.T) {
	c, problems := config.Parse("t.yaml", []byte("hostname: mx.example.org\ndomains: [example.org]\nbackend: 127.0.0.1:10025\nrules: []\n"), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	zone := filtertest.MustParseZone("_dmarc.example.com TXT v=DMARC1; p=reject")
	clock := filtertest.NewClock()
	engine, problems := c.Compile(all.Specs(), filters.Env{Hostname: c.Hostname, Domains: c.Domains, Resolver: zone, Store: filtertest.NewStore(clock),
		Clock: clock, Log: slog.New(slog.DiscardHandler)})
	if engine == nil {
		t.Fatal(problems)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	address := netip.MustParseAddrPort("192.0.2.1:25000")
	gate := engine.NewGate(&filters.Session{ID: "S", Client: filters.ClientAt(address), To: &address, Accepted: clock.Now()}, &policy.Runtime{Clock: clock})
	defer gate.Close("")
	gate.Connect(ctx)
	gate.Greet(ctx, false, 0)
	gate.Helo(ctx, &filters.Greeting{Name: "mail.example.com", Extended: filters.Known(true)})
	gate.Mail(ctx, &filters.Envelope{ID: "S.1", ReversePath: "ann@example.com", Started: clock.Now()})
	gate.Rcpt(ctx, &filters.Recipient{ForwardPath: "joe@example.org"})
	gate.Accepted(ctx)
	gate.Data(ctx)
	m := filters.NewMessage(1<<20, nil)
	defer m.Release()
	// A signature makes DKIM wait for the body.
	m.Write([]byte("DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=from; bh=eA==; b=eA==\r\nFrom: ann@example.com\r\n\r\n"))
	gate.Message(m)
	gate.Growing()
	for zone.Asked("TXT", "_dmarc.example.com") == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		t.Error("nobody asked before the end of the body")
	}
	m.Complete()
	gate.EndOfData(ctx)
	gate.Conclude(policy.Ending{})
}
