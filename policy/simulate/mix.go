package simulate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"gatepost/filters"
	"gatepost/policy"
)

// Mix is the traffic of a usual minute: of a hundred messages 70 from who sends each day, 5 from new senders of known
// domains and 25 of bots. It is safe for concurrent use.
type Mix struct {
	*zone
	messages [][]byte
}

// MixDomains is how many domains send each day.
const MixDomains = 500

// NewMix makes it.
func NewMix() *Mix {
	w := &world{zone: newZone()}
	w.forge()
	m := &Mix{zone: w.zone}
	for i := range MixDomains {
		domain := mixDomain(i)
		w.zone.addHost("mail."+domain, mixHost(i))
		w.zone.say(domain, fmt.Sprintf("v=spf1 ip4:%s -all", mixHost(i)))
		m.messages = append(m.messages, w.sign(domain))
	}
	return m
}

func mixDomain(i int) string { return fmt.Sprintf("daily%d.example", i) }

func mixHost(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 20, byte(i >> 4), byte(i&15 + 1)})
}

// Regular is a message of the daily sender number n.
func (m *Mix) Regular(n int64) *Attempt { return m.from(int(n%MixDomains), "news") }

func (m *Mix) from(i int, who string) *Attempt {
	domain := mixDomain(i)
	return &Attempt{Kind: Servers, Client: mixHost(i), Greeting: "mail." + domain, From: who + "@" + domain, To: []string{"user@" + site}, Message: m.messages[i]}
}

// Message is number n of the mix.
func (m *Mix) Message(n int64) *Attempt {
	r := mixRand(n)
	switch share := r.IntN(100); {
	case share < 70:
		return m.Regular(int64(r.IntN(MixDomains)))
	case share < 75:
		return m.from(r.IntN(MixDomains), person(r))
	default:
		return m.stranger(n, r)
	}
}

// Newcomer is a message of a sender that nobody knows, of a domain that sends daily.
func (m *Mix) Newcomer(n int64) *Attempt {
	r := mixRand(n)
	return m.from(r.IntN(MixDomains), person(r))
}

// Stranger is a bot's message. No two are from one network, as long as n is below a million.
func (m *Mix) Stranger(n int64) *Attempt { return m.stranger(n, mixRand(n)) }

func mixRand(n int64) *rand.Rand { return rand.New(rand.NewPCG(uint64(n), 1)) }

func (m *Mix) stranger(n int64, r *rand.Rand) *Attempt {
	address := bot(int(n) % MaxBotnet)
	return &Attempt{Kind: Botnet, Client: address, Greeting: botGreeting(r, address), From: person(r) + "@" + forgedDomain(r.IntN(forgedDomains)),
		To: []string{"user@" + site}, Message: spamMessage}
}

// Proxy is one of a site's, for who plays its messages himself. It belongs to one goroutine.
type Proxy struct{ proxy }

// NewProxy makes one. The engine's background work is the caller's.
func NewProxy(engine *policy.Engine, clock filters.Clock) *Proxy {
	return &Proxy{proxy{engine: engine, runtime: policy.Runtime{Clock: clock}, clock: clock}}
}

// Deliver makes one attempt.
func (p *Proxy) Deliver(a *Attempt) Reply { return p.deliver(a) }
