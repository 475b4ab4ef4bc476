package simulate

import (
	"fmt"
	"math"
	"time"
)

// The kinds of senders.
const (
	Providers  = "big providers"
	Services   = "services, VERP"
	Codes      = "one-time codes"
	Servers    = "servers with SPF"
	Lists      = "mailing lists"
	WithoutSPF = "servers without SPF"
	Forwarders = "forwarders"
	Unnamed    = "no SPF, no own name"

	Botnet      = "botnet"
	Snowshoe    = "snowshoe, +all"
	Dictionary  = "dictionary"
	TrapSenders = "trap senders"
	Hacked      = "hacked servers"
)

// kind is a kind of honest senders.
type kind struct {
	name    string
	label   string  // of its domains
	share   float64 // of the messages, in percent
	domains int     // how many there are; 0: one for each messages of its own
	each    int
}

// kinds is the honest mail. The shares are assumptions, after what sites report of their own: nearly all mail comes from
// few large senders, and hardly any honest server is left without SPF or a name, as the large providers refuse those.
var kinds = []*kind{
	{name: Providers, share: 45, domains: 12},
	{name: Services, label: "esp", share: 19, domains: 12},
	{name: Codes, label: "otc", share: 8, domains: 20},
	{name: Servers, label: "firm", share: 22, each: 6},
	{name: Lists, label: "list", share: 4.5, each: 60},
	{name: WithoutSPF, label: "old", share: 0.9, each: 6},
	{name: Forwarders, label: "alumni", share: 0.5, each: 12},
	{name: Unnamed, label: "home", share: 0.1, each: 6},
}

// days is how long honest mail comes. What waits then still has its time to come back.
const days = 3

// honest makes the senders and their mail.
func (w *world) honest(messages int) {
	number := 0
	for _, k := range kinds {
		n := int(math.Round(float64(messages) * k.share / 100))
		domains := k.domains
		if domains == 0 {
			domains = max(n/k.each, 1)
		}
		senders := make([]*sender, domains)
		for i := range senders {
			switch k.name {
			case Providers:
				senders[i] = w.bigProvider(k, number)
				number++
			case Services, Codes:
				senders[i] = w.service(k, i, number)
				number++
			default:
				senders[i] = w.server(k, i)
			}
		}
		for range n {
			// Squared: some send much more than others, and the last ones once or twice.
			place := w.rand.Float64()
			s := senders[int(place*place*float64(domains))]
			w.after(within(w.rand, 0, days*24*time.Hour), func() { w.mail(s) })
		}
	}
}

func (w *world) user() string { return fmt.Sprintf("user%d@%s", w.rand.IntN(1000), site) }

func (w *world) nobody() string { return fmt.Sprintf("%s%d@%s", nobody, w.rand.IntN(1e6), site) }
