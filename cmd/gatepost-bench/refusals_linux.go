package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"

	"gatepost/cmd/gatepost-bench/load"
)

// refuseKey is what -only calls the refusals.
const refuseKey = "refuse"

// refusal is one way to send clients away.
type refusal struct {
	key, title string
	rules      string
	mail       bool // up to RCPT; else the greeting is the refusal
	code       int
	strangers  bool // each client has an address that was never seen before
	goal       float64
}

// greylistRefusal is the place of that kind.
const greylistRefusal = 2

var refusals = []refusal{
	{key: "connect", title: "refused sessions, at connect with a reply", code: 554, goal: 14_500, rules: relayFilters + `
rules:
  - {name: everybody, when: client.port >= 0, then: reject, at: connect, reply: 554 5.7.1 Not today}
`},
	{key: "rcpt", title: "refused sessions, at RCPT by rule", mail: true, code: 550, goal: 8_500, rules: relayFilters + `
rules:
  - {name: everybody, when: client.port >= 0, then: reject, reply: 550 5.7.1 Not today}
`},
	{key: "greylist", title: "refused sessions, greylisted without asking the backend, state written", mail: true, code: 451, strangers: true, goal: 8_500,
		rules: greylistRules},
	{key: "dnsbl", title: "refused sessions, listed by a DNSBL and seen for the first time", mail: true, code: 554, strangers: true, goal: 8_000, rules: `
filters:
  ratelimit: {enabled: false}
  earlytalker: {enabled: false}
  dnsbl:
    on_error: defer
    zones:
      - {zone: ` + publicList + `, codes: {127.0.0.2: 4}, ipv6: "off"}
  rdns: {enabled: false}
  helo: {enabled: false}
  spf: {enabled: false}
  dkim: {enabled: false}
  dmarc: {enabled: false}
  greylist: {enabled: false}
rules:
  - {name: listed, when: dnsbl.score >= 4, then: reject, reply: "554 5.7.1 {client.ip} is listed by {dnsbl.listed}"}
`},
}

// greylistRules greylist everybody.
const greylistRules = `
filters:
  ratelimit: {enabled: false}
  earlytalker: {enabled: false}
  dnsbl: {enabled: false}
  rdns: {enabled: false}
  helo: {enabled: false}
  spf: {enabled: false}
  dkim: {enabled: false}
  dmarc: {enabled: false}
  greylist: {ask_backend: false}
rules:
  - {name: everybody, when: client.port >= 0, then: greylist}
`

// refusals measures how many sessions a second can be sent away.
func (b *bench) refusals(ctx context.Context) error {
	if !b.wants(refuseKey) || !b.hasGatepost() {
		return nil
	}
	for _, kind := range refusals {
		figures, err := b.refuse(ctx, kind)
		if err != nil {
			return err
		}
		b.found(finding{title: kind.title, figures: figures, unit: "sessions/s", goal: goal{kind.goal, atLeast}})
		fmt.Fprintf(os.Stderr, "%s: done\n", kind.title)
	}
	return nil
}

func (b *bench) refuse(ctx context.Context, kind refusal) ([]float64, error) {
	r, err := b.start(ctx, b.refuser(kind))
	if err != nil {
		b.fail("%v", err)
		return nil, ctx.Err()
	}
	defer r.stop()
	var rates []float64
	for range b.rounds {
		result, err := b.sendAway(ctx, r, kind)
		if err != nil {
			return nil, err
		}
		rates = append(rates, result.Rate())
	}
	return rates, nil
}

// refuser is a Gatepost that does it.
func (b *bench) refuser(kind refusal) peer {
	p := gatepost("refuse-"+kind.key, "Gatepost, "+kind.title, func(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
		s := b.settings(folder, addr)
		if kind.strangers {
			s.ProxyFrom = "127.0.0.0/8"
		}
		return writeGatepost(s, kind.rules)
	})
	p.ready = func(ctx context.Context, r *running) error {
		result, err := load.Run(ctx, b.away(r, kind, 1))
		if err == nil && result.Failures != nil {
			err = fmt.Errorf("%s", result.Failures)
		}
		return err
	}
	return p
}

func (b *bench) sendAway(ctx context.Context, r *running, kind refusal) (*load.Result, error) {
	r.process.trimLog()
	result, err := load.Run(ctx, b.away(r, kind, 0))
	if err == nil && result.Failures != nil {
		b.fail("%s: %s", kind.title, result.Failures)
	}
	return result, err
}

// away is the load: so many sessions, or for the time of a turn if that is 0.
func (b *bench) away(r *running, kind refusal, sessions int) load.Options {
	o := load.Options{Addr: r.addr, Sources: b.sources, Parallel: 20, Duration: b.time, Sessions: sessions}
	if sessions > 0 {
		o.Parallel, o.Duration = 1, startPatience
	}
	if kind.mail {
		m := mail(b.letters.small, 1)
		o.Script = load.Refusal(&m, kind.code)
	} else {
		o.Script = load.Refusal(nil, kind.code)
	}
	if kind.strangers {
		o.Preamble = b.stranger
	}
	return o
}

// stranger is a PROXY header for a client whose network was not seen before in this run.
func (b *bench) stranger(int) []byte {
	b.strangers++
	var address [4]byte
	binary.BigEndian.PutUint32(address[:], 0x10000000+uint32(b.strangers)<<8+1) // 16.0.0.1, 16.0.1.1, …
	return fmt.Appendf(nil, "PROXY TCP4 %s 127.0.0.1 1024 25\r\n", netip.AddrFrom4(address))
}

func (b *bench) hasGatepost() bool {
	_, err := findBinary(b.gatepost)
	return err == nil
}
