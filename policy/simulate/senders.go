package simulate

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// sender is a domain of honest people, or of a service.
type sender struct {
	kind     *kind
	domain   string
	schedule *Schedule
	message  []byte
	from     func(r *rand.Rand) string // a reverse-path
	host     func(r *rand.Rand) (client netip.Addr, greeting string)
	byDomain bool // its addresses differ from message to message: who is new is told by the domain
}

// bigProvider is a provider whose retries come from anywhere in its pool.
func (w *world) bigProvider(k *kind, n int) *sender {
	domain := fmt.Sprintf("big%d.example", n)
	p := w.addPool(n, "out."+domain)
	s := &sender{kind: k, domain: domain, schedule: []*Schedule{gmail, exchange, postfix}[n%3], message: w.sign(domain)}
	s.host = poolHost(p)
	s.from = func(r *rand.Rand) string { return person(r)[:5] + "@" + domain }
	if n%12 == 11 {
		return s // without SPF: signatures and the names of its hosts are all there is
	}
	p.unnamed = n%6 == 5 || n%6 == 3
	w.zone.say(domain, "v=spf1 include:_spf."+domain+" ~all")
	w.zone.say("_spf."+domain, fmt.Sprintf("v=spf1 ip4:%s ip6:%s ~all", p.v4(), p.v6()))
	return s
}

func (w *world) addPool(n int, group string) *pool {
	p := &pool{number: n, group: group}
	w.zone.pools = append(w.zone.pools, p)
	w.zone.byName[group] = p
	return p
}

func poolHost(p *pool) func(r *rand.Rand) (netip.Addr, string) {
	return func(r *rand.Rand) (netip.Addr, string) {
		n := uint16(r.IntN(1 << 16))
		address := p.host(n, r.IntN(3) == 0)
		if name, ok := p.name(address); ok {
			return address, name
		}
		return address, fmt.Sprintf("m%05d-6.%s", n, p.group)
	}
}

// service sends for others (VERP), or one-time codes, through SES.
func (w *world) service(k *kind, n, number int) *sender {
	domain := fmt.Sprintf("%s%d.example", k.label, n)
	p := w.addPool(number, "out."+domain)
	p.unnamed = n%2 == 1
	w.zone.say(domain, fmt.Sprintf("v=spf1 ip4:%s ip6:%s -all", p.v4(), p.v6()))
	s := &sender{kind: k, domain: domain, schedule: ses, message: w.sign(domain), host: poolHost(p), byDomain: true}
	s.from = func(r *rand.Rand) string {
		return fmt.Sprintf("bounces+%d-%08x-user%d=example.org@%s", r.IntN(1e6), r.Uint32(), r.IntN(1000), domain)
	}
	return s
}

// server is a host of its own.
func (w *world) server(k *kind, n int) *sender {
	domain := fmt.Sprintf("%s%d.example", k.label, n)
	w.servers++
	place := uint32(w.servers) * 211 % (1 << 19)
	address := netip.AddrFrom4([4]byte{172, 16 + byte(place>>16), byte(place >> 8), byte(place)})
	name := "mail." + domain
	s := &sender{kind: k, domain: domain, schedule: single(w.rand), message: w.sign(domain)}
	switch k.name {
	case Unnamed:
		if n%2 == 0 {
			a := address.As4()
			w.zone.addHost(fmt.Sprintf("%d-%d-%d-%d.static.isp.example", a[0], a[1], a[2], a[3]), address)
		}
		w.zone.say(domain, "some text that is no policy")
	case WithoutSPF:
		w.zone.addHost(name, address)
		w.zone.say(domain, "some text that is no policy")
	case Forwarders:
		w.zone.addHost(name, address)
		w.zone.say("away."+domain, "v=spf1 ip4:172.31.2.2 -all")
	default:
		w.zone.addHost(name, address)
		w.zone.say(domain, fmt.Sprintf("v=spf1 ip4:%s -all", address))
	}
	s.host = func(*rand.Rand) (netip.Addr, string) { return address, name }
	s.from = func(r *rand.Rand) string { return person(r)[:2] + "@" + domain }
	switch k.name {
	case Forwarders: // who wrote to an address that is forwarded; the envelope stays his
		s.from = func(r *rand.Rand) string { return person(r)[:2] + "@away." + domain }
	case Lists:
		s.byDomain = true
		s.from = func(r *rand.Rand) string {
			return fmt.Sprintf("list-bounces+user%d=example.org@%s", r.IntN(1000), domain)
		}
	}
	return s
}

// key signs for everybody. It is no secret: the world that believes it ends with the simulation.
var key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))

// sign makes a domain's message. That it is the same each time does not matter: nothing learns from what is in it.
func (w *world) sign(domain string) []byte {
	text := "From: Somebody <somebody@" + domain + ">\r\nTo: user@example.org\r\nSubject: about our meeting\r\n" +
		"Date: Mon, 05 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@" + domain + ">\r\n\r\nSee you.\r\n"
	var signed bytes.Buffer
	err := msgauth.Sign(&signed, bytes.NewReader([]byte(text)), &msgauth.SignOptions{
		Domain: domain, Selector: "s", Signer: key, HeaderKeys: []string{"From", "To", "Subject", "Date", "Message-ID"},
	})
	if err != nil {
		return []byte(text) // its signature is missing in the result's figures, no more
	}
	public := key.Public().(ed25519.PublicKey)
	w.zone.say("s._domainkey."+domain, "v=DKIM1; k=ed25519; p="+base64.StdEncoding.EncodeToString(public))
	return signed.Bytes()
}
