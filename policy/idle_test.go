package policy

import (
	"context"
	"runtime"
	"testing"
	"time"

	"gatepost/filters"
)

// A result for which a later observation waits may come between two transactions, when the gate is idle.
func TestIdleGateTakesResults(t *testing.T) {
	open := make(chan struct{})
	f := &fakes{dnsbl: answers(listFacts{}), resolve: after(open, heloCheckFacts{Valid: true}), sums: answers(quotaFacts{Over: true})}
	c := f.connect(t, "dnsbl.score > 4 -> reject", "sums.over and resolve.valid -> reject")
	c.greet()
	c.hello()
	c.Idle()
	if c.Resume(); c.running() == 0 || c.busy.ends[greetingLevel] == nil {
		t.Fatal("an observation that runs was forgotten")
	}
	c.Idle()
	close(open)
	for deadline := time.Now().Add(5 * time.Second); ; c.Idle() {
		if c.Resume(); c.busy == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the observation does not end")
		}
		runtime.Gosched()
	}
	if valid, known := c.facts.Lookup("resolve.valid"); !known || valid != true {
		t.Errorf("resolve.valid is %v, known %v", valid, known)
	}
	for range 2 {
		c.mail("a@example.com")
		c.rcpt("b@example.org")
		c.Accepted(c.ctx)
		v, _ := c.message(plain)
		expect(t, "message", v, "550 5.7.1")
		c.Conclude(Ending{})
		c.Idle()
		c.Resume()
	}
}

// What a waiting client costs: a gate behind EHLO, whose observations have ended.
func TestIdleGateSize(t *testing.T) {
	f := &fakes{
		dnsbl: answers(listFacts{}), rdns: answers(listFacts{}), helo: answers(heloCheckFacts{Valid: true}), resolve: answers(heloCheckFacts{Valid: true}),
		spf: answers(spfFacts{Result: "pass"}), dkim: answers(dkimFacts{}), dmarc: answers(dmarcFacts{}), grey: &greylist{},
	}
	e := compile(t, f, f.config("dnsbl.score + rdns.score > 4 -> reject", "resolve.valid and not helo.valid -> reject",
		`spf.result == "fail" or dkim.result == "fail" or dmarc.result == "fail" -> reject`, `greylist.state == "new" -> greylist`))
	gates := make([]*Gate, 1000)
	before := heap()
	for i := range gates {
		g := e.NewGate(benchSession, nil)
		g.Connect(t.Context())
		g.Greet(t.Context(), false, 0)
		g.Helo(t.Context(), &filters.Greeting{Name: "client.example.com", Extended: filters.Known(true)})
		for g.running() > 0 {
			g.receive(context.Background(), time.Time{})
		}
		g.Idle()
		g.Resume()
		gates[i] = g
	}
	size := float64(heap()-before) / float64(len(gates))
	t.Logf("%.0f bytes", size)
	if size > 370 {
		t.Errorf("an idle gate takes %.0f bytes", size)
	}
	for _, g := range gates {
		g.Close("")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
