package simulate

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func small(seed uint64) Config {
	return Config{Seed: seed, Honest: 600, Botnet: 400, Snowshoe: 60, Dictionary: 20, TrapSenders: 40, Hacked: 20}
}

func printed(r *Result) string {
	var out bytes.Buffer
	r.Print(&out)
	return out.String()
}

func TestTheSeedDecides(t *testing.T) {
	r1, a := play(t, small(1))
	r2, b := play(t, small(1))
	if !slices.Equal(a, b) || printed(r1) != printed(r2) {
		t.Error("one seed makes two kinds of traffic")
	}
	_, c := play(t, small(2))
	if slices.Equal(a, c) {
		t.Error("another seed makes the same traffic")
	}
	if len(a) < 1200 {
		t.Errorf("%d attempts only", len(a))
	}
	if !slices.IsSortedFunc(a, func(x, y arrival) int { return int(x.at - y.at) }) {
		t.Error("the clock goes back")
	}
}

// What is greylisted comes back by its schedule, honest mail from its own pool, and arrives; bots do not come back.
func TestWhoComesBack(t *testing.T) {
	r, seen := play(t, Config{Seed: 3, Honest: 2000, Botnet: 1000})
	honest := r.Honest()
	if honest.Messages != 2000 || honest.Lost > 0 {
		t.Errorf("%d honest messages, %d lost", honest.Messages, honest.Lost)
	}
	// One of each domain that SPF proves, or pool; of the others each sender.
	if honest.NewDelayed < 100 || honest.NewDelayed > honest.New/2 {
		t.Errorf("%d of %d first messages were greylisted", honest.NewDelayed, honest.New)
	}
	if bots := r.Kinds[Botnet]; bots.Attempts != 1000 || bots.Kept() < 99 {
		t.Errorf("%d bots, %.1f %% kept out", bots.Attempts, bots.Kept())
	}
	moved := 0
	networks := map[string]netip.Prefix{}
	for _, a := range seen {
		if !strings.Contains(a.from, "@big") {
			continue
		}
		client := netip.MustParseAddr(a.client)
		bits := 48
		if client.Is4() {
			bits = 16
		}
		network, _ := client.Prefix(bits)
		_, domain, _ := strings.Cut(a.from, "@")
		key := domain + client.StringExpanded()[:1] // one for each version of IP
		if known, ok := networks[key]; ok && known != network {
			t.Fatalf("%s sends from %s and %s", domain, known, network)
		}
		networks[key] = network
		if client.Is6() {
			moved++
		}
	}
	if moved == 0 || moved == len(seen) {
		t.Errorf("%d of %d attempts over IPv6", moved, len(seen))
	}
}

func TestShares(t *testing.T) {
	total := 0.0
	for _, k := range kinds {
		total += k.share
	}
	if math.Abs(total-100) > 1e-9 {
		t.Errorf("the shares of honest mail come to %g %%", total)
	}
	r, _ := play(t, Config{Seed: 1, Honest: 4000})
	for _, k := range kinds {
		got, want := r.Kinds[k.name].Messages, int(math.Round(4000*k.share/100))
		if got != want {
			t.Errorf("%s: %d messages, not %d", k.name, got, want)
		}
	}
	named := map[string]int{}
	const all = 200_000
	for i := range all {
		place, ok := botPlace(bot(i))
		if !ok || botAt(place) != bot(i) {
			t.Fatalf("bot %d is not where it is", i)
		}
		switch name := botName(bot(i)); {
		case name == "":
			named["none"]++
		case strings.HasSuffix(name, botHacks):
			named["server"]++
		case strings.HasSuffix(name, botGroup):
			named["customer"]++
		}
	}
	for kind, share := range map[string]float64{"none": 0.45, "customer": 0.3695, "server": 0.0005} {
		got := float64(named[kind]) / all
		if deviation := math.Sqrt(share / all); math.Abs(got-share) > 5*deviation+share/50 {
			t.Errorf("%s: %.5f of the bots, not %.5f", kind, got, share)
		}
	}
}

// A million bots are a million networks.
func TestBotsAreAllOverThePlace(t *testing.T) {
	seen := map[netip.Prefix]bool{}
	for i := range 200_000 {
		network, _ := bot(i).Prefix(24)
		seen[network] = true
	}
	if len(seen) < 198_000 {
		t.Errorf("200,000 bots in %d networks", len(seen))
	}
}

// The names of hosts that are worked out lead back to where they came from.
func TestNamesLeadBack(t *testing.T) {
	w := &world{zone: newZone()}
	p := w.addPool(7, "out.big7.example")
	check := func(address netip.Addr) {
		t.Helper()
		names, err := w.zone.LookupPTR(t.Context(), address)
		if err != nil {
			return
		}
		found, err := w.zone.addresses(names[0], address.Is4())
		if names[0] == "customer.nowhere.example" {
			if err == nil {
				t.Errorf("%s has the address %v", names[0], found)
			}
		} else if err != nil || !slices.Contains(found, address) {
			t.Errorf("%s is %s, which is %v, %v", address, names[0], found, err)
		}
	}
	for i := range 2000 {
		check(bot(i))
		check(p.host(uint16(i*31), i%2 == 0))
	}
}

func TestMixShares(t *testing.T) {
	m := NewMix()
	kinds, known, networks := map[string]int{}, 0, map[netip.Addr]bool{}
	const all = 10_000
	for n := range int64(all) {
		a := m.Message(n)
		kinds[a.Kind]++
		if strings.HasPrefix(a.From, "news@daily") {
			known++
		}
		networks[m.Stranger(n).Client] = true
		if again := m.Message(n); again.Client != a.Client || again.From != a.From {
			t.Fatalf("message %d is two", n)
		}
	}
	if math.Abs(float64(known)/all-0.70) > 0.02 || math.Abs(float64(kinds[Botnet])/all-0.25) > 0.02 {
		t.Errorf("%d of known senders, %d of bots, of %d", known, kinds[Botnet], all)
	}
	if len(networks) != all {
		t.Errorf("%d strangers have %d addresses", all, len(networks))
	}
}

// What counts as a retry that was held, as late and as lost.
func TestTallies(t *testing.T) {
	grey, taken := Reply{Code: 451, Rule: greylistRule}, Reply{Code: 250}
	for name, test := range map[string]struct {
		heard []Reply
		ages  []time.Duration
		want  Tally
	}{
		"at once":       {[]Reply{taken}, []time.Duration{0}, Tally{New: 1}},
		"came back":     {[]Reply{grey, taken}, []time.Duration{0, 6 * minute}, Tally{New: 1, Delayed: 1, NewDelayed: 1, Ripe: 1}},
		"came too soon": {[]Reply{grey, grey, taken}, []time.Duration{0, 2 * minute, 14 * minute}, Tally{New: 1, Delayed: 1, NewDelayed: 1, Ripe: 1}},
		"held":          {[]Reply{grey, grey, taken}, []time.Duration{0, 6 * minute, 30 * minute}, Tally{New: 1, Delayed: 1, NewDelayed: 1, NewLate: 1, Ripe: 1, RipeHeld: 1}},
		"refused":       {[]Reply{{Code: 554}}, []time.Duration{0}, Tally{New: 1, Lost: 1, Delayed: 1, NewDelayed: 1, NewLate: 1}},
	} {
		m, got := &message{isNew: true}, Tally{}
		for i, r := range test.heard {
			m.heard(r, test.ages[i], 5*minute)
		}
		last := len(test.heard) - 1
		got.ended(m, test.ages[last], test.heard[last])
		test.want.Messages = 1
		got.Rules = test.want.Rules
		if printedTally(got) != printedTally(test.want) {
			t.Errorf("%s: %+v, not %+v", name, got, test.want)
		}
	}
}

func printedTally(t Tally) [11]int {
	return [11]int{t.Messages, t.Lost, t.Delayed, t.New, t.NewLate, t.NewDelayed, t.Known, t.KnownDelayed, t.Ripe, t.RipeHeld, t.Attempts}
}
