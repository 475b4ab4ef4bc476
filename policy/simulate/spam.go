package simulate

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bots are all over 96.0.0.0/4: a million of them is one in each /24. (Nothing of this leaves the process.)
const (
	botBits  = 28
	botSpace = 1 << botBits
	botGroup = "dyn.access.example"
	botHacks = "hacked.example" // servers that somebody has broken into

	botCustomers = ".customers.example" // below it, of 256 providers: names that do not tell the address

	// forgedDomains is how many domains bots write on their envelopes.
	forgedDomains = 500
)

// MaxBotnet is how many bots there can be.
const MaxBotnet = botSpace

func bot(n int) netip.Addr {
	return botAt(uint32(n) * 2654435761 % botSpace) // odd, so no two are the same
}

func botAt(place uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(96 | place>>24), byte(place >> 16), byte(place >> 8), byte(place)})
}

// botPlace is the reverse of botAt.
func botPlace(address netip.Addr) (place uint32, ok bool) {
	if !address.Is4() {
		return 0, false
	}
	place = binary.BigEndian.Uint32(address.AsSlice())
	return place % botSpace, place>>botBits == 96>>4
}

// botShare says of a bot which of 10,000 it is: what its name is like hangs on that.
func botShare(place uint32) int { return int(uint64(place) * 2246822519 >> 8 % 10_000) }

// botName: of 10,000 bots 4,500 have no name, 1,500 one that does not lead back, 3,695 one that is made of the address, as
// access networks do it, and 300 one that is not, but which they do not know. 5 are servers with a name of their own, by
// which they greet: nothing tells them from mail servers but that they do not come back.
func botName(address netip.Addr) string {
	place, ok := botPlace(address)
	if !ok {
		return ""
	}
	switch share := botShare(place); {
	case share < 4500:
		return ""
	case share < 6000:
		return "customer.nowhere.example"
	case share < 9695:
		return strings.ReplaceAll(address.String(), ".", "-") + "." + botGroup
	case share < 9995:
		return fmt.Sprintf("c%09d.dsl%d%s", place, place>>20, botCustomers)
	default:
		return fmt.Sprintf("h%09d.%s", place, botHacks)
	}
}

func botAddress(label, group string) (netip.Addr, bool) {
	switch {
	case group == botGroup:
		address, err := netip.ParseAddr(strings.ReplaceAll(label, "-", "."))
		return address, err == nil
	case group == botHacks, strings.HasSuffix(group, botCustomers):
		place, err := strconv.Atoi(label[min(len(label), 1):])
		return botAt(uint32(place) % botSpace), err == nil
	}
	return netip.Addr{}, false
}

// botGreeting is what a bot says it is: its own name, if it has one and knows it, or something.
func botGreeting(r *rand.Rand, address netip.Addr) string {
	name := botName(address)
	switch n := r.IntN(10); {
	case strings.HasSuffix(name, botHacks), strings.HasSuffix(name, botGroup) && n < 4:
		return name
	case n < 6:
		return "WIN-" + fmt.Sprint(r.IntN(1e6))
	case n < 7:
		return "[" + address.String() + "]"
	default:
		return fmt.Sprintf("mail%d.forged%d.example", r.IntN(9), r.IntN(forgedDomains))
	}
}

// forge makes the domains whose names bots use, with the SPF records that domains have.
func (w *world) forge() {
	for i := range forgedDomains {
		name := forgedDomain(i)
		switch i % 20 {
		case 0, 1, 2, 3, 4:
			w.zone.say(name, "some text that is no policy") // none
		case 5:
			w.zone.say(name, "v=spf1 ip4:172.31.1.1 ?all")
		case 6:
			w.zone.say(name, "v=spf1 ip4:172.31.1.1 inlcude:typing.example -all") // permerror
		case 7, 8, 9, 10, 11:
			w.zone.say(name, "v=spf1 ip4:172.31.1.1 ~all")
		default:
			w.zone.say(name, "v=spf1 ip4:172.31.1.1 -all")
		}
	}
}

func forgedDomain(i int) string { return fmt.Sprintf("forged%d.example", i) }

func person(r *rand.Rand) string {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	var name [7]byte
	for i := range name {
		name[i] = letters[r.IntN(len(letters))]
	}
	return string(name[:])
}

// forged is what a bot writes on an envelope: one in ten has it of a list of a thousand that all have.
func (w *world) forged() string {
	if w.rand.IntN(10) == 0 {
		n := w.rand.IntN(1000)
		return fmt.Sprintf("service-%s@%s", person(rand.New(rand.NewPCG(uint64(n), 2))), forgedDomain(n%forgedDomains))
	}
	return person(w.rand) + "@" + forgedDomain(w.rand.IntN(forgedDomains))
}

// botnet sends from one address after the other, each once, for a day.
func (w *world) botnet(n int) {
	if n == 0 {
		return
	}
	every := 24 * time.Hour / time.Duration(n)
	var next func(i int)
	next = func(i int) {
		address := bot(i)
		to := w.user()
		if w.rand.IntN(5) == 0 {
			to = w.nobody()
		}
		w.spam(&Attempt{Kind: Botnet, Client: address, Greeting: botGreeting(w.rand, address),
			From: w.forged(), To: []string{to}, Message: spamMessage})
		if i+1 < n {
			w.after(every, func() { next(i + 1) })
		}
	}
	w.after(0, func() { next(0) })
}

// snowshoe sends little from each of many addresses with good names, of domains that let everybody send, and comes back
// from another one.
func (w *world) snowshoe(messages int) {
	const domains, hosts = 30, 512
	wide := []string{"v=spf1 +all", "v=spf1 ip4:0.0.0.0/1 ip4:128.0.0.0/1 -all", "v=spf1 include:_all.snow.example -all"}
	w.zone.say("_all.snow.example", "v=spf1 +all")
	host := func(domain, n int) netip.Addr {
		return netip.AddrFrom4([4]byte{240, byte(domain), byte(n >> 4), byte(n & 15)})
	}
	for d := range domains {
		w.zone.say(snowDomain(d), wide[d%len(wide)])
		for h := range hosts {
			w.zone.addHost(fmt.Sprintf("%s%d.%s", "relay", 10_000+h, snowDomain(d)), host(d, h))
		}
	}
	// Since when each network has been told to come back. Each is one domain's; what its senders are called does not count, as
	// names that look like tokens are one sender (see filters.FoldSender).
	waits := map[netip.Prefix]time.Time{}
	for range messages {
		d := w.rand.IntN(domains)
		from, to := person(w.rand)+"@"+snowDomain(d), w.user()
		var try func(n int)
		try = func(n int) {
			h := w.rand.IntN(hosts)
			a := &Attempt{Kind: Snowshoe, Client: host(d, h), Greeting: fmt.Sprintf("relay%d.%s", 10_000+h, snowDomain(d)),
				From: from, To: []string{to}, Message: spamMessage}
			network, _ := a.Client.Prefix(24)
			since, waited := waits[network]
			if !waited {
				waits[network] = w.clock.Now()
			}
			reply := w.spam(a)
			if reply.Code == 250 && (!waited || w.clock.Now().Sub(since) < w.config.Delay) {
				w.result.Unwaited++
			}
			if reply.comesBack() && n < 4 {
				w.after(within(w.rand, 6*time.Minute, 20*time.Minute), func() { try(n + 1) })
			}
		}
		w.after(within(w.rand, 0, 24*time.Hour), func() { try(1) })
	}
}

func snowDomain(n int) string { return fmt.Sprintf("snow%d.example", n) }

// dictionary tries names, twenty in each session.
func (w *world) dictionary(sessions int) {
	for i := range sessions {
		address := bot(MaxBotnet - 1 - i%20)
		w.after(within(w.rand, 0, 24*time.Hour), func() {
			a := &Attempt{Kind: Dictionary, Client: address, Greeting: botGreeting(w.rand, address),
				From: person(w.rand) + "@" + forgedDomain(w.rand.IntN(forgedDomains)), Message: spamMessage}
			for range 20 {
				a.To = append(a.To, w.nobody())
			}
			a.To = append(a.To, w.user())
			w.spam(a)
		})
	}
}

// trapped are spammers with servers of their own, good names and SPF, whose lists have traps in them.
func (w *world) trapped(messages int) {
	const domains = 8
	host := func(domain, n int) netip.Addr { return netip.AddrFrom4([4]byte{241, 0, byte(domain), byte(n)}) }
	for d := range domains {
		name := fmt.Sprintf("bulk%d.example", d)
		w.zone.say(name, fmt.Sprintf("v=spf1 ip4:241.0.%d.0/24 -all", d))
		for h := range 250 {
			w.zone.addHost(fmt.Sprintf("relay%d.%s", 10_000+h, name), host(d, h))
		}
	}
	for i := range messages {
		d, h := w.rand.IntN(domains), w.rand.IntN(250)
		name, to := fmt.Sprintf("bulk%d.example", d), w.user()
		if i%3 == 0 {
			to = trapAddress
		}
		w.after(within(w.rand, 0, 24*time.Hour), func() {
			w.spam(&Attempt{Kind: TrapSenders, Client: host(d, h), Greeting: fmt.Sprintf("relay%d.%s", 10_000+h, name),
				From: person(w.rand) + "@" + name, To: []string{to}, Message: spamMessage})
		})
	}
}

// hacked are honest servers that somebody sends spam through under others' names, by their own queue.
func (w *world) hacked(messages int) {
	for i := range 50 {
		w.zone.addHost(fmt.Sprintf("mail.shop%d.example", i), netip.AddrFrom4([4]byte{172, 30, byte(i), 9}))
	}
	for range messages {
		i := w.rand.IntN(50)
		from, to := person(w.rand)+"@"+forgedDomain(w.rand.IntN(forgedDomains)), w.user()
		first := time.Time{}
		var try func(n int)
		try = func(n int) {
			if n == 1 {
				first = w.clock.Now()
			}
			a := &Attempt{Kind: Hacked, Client: netip.AddrFrom4([4]byte{172, 30, byte(i), 9}), Greeting: fmt.Sprintf("mail.shop%d.example", i),
				From: from, To: []string{to}, Message: spamMessage}
			if age := w.clock.Now().Sub(first); w.spam(a).comesBack() && age < postfix.GiveUp {
				w.after(postfix.After(w.rand, n, age), func() { try(n + 1) })
			}
		}
		w.after(within(w.rand, 0, 24*time.Hour), func() { try(1) })
	}
}

var spamMessage = []byte("From: winner@example.com\r\nTo: you@example.org\r\nSubject: you have won\r\nDate: Mon, 05 Jan 2026 12:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nBuy.\r\n")
