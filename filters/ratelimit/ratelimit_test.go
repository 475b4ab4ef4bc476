package ratelimit

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func rateOf(t testing.TB, text string) (r Rate) {
	t.Helper()
	if err := r.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return r
}

func newFilter(t testing.TB, limits ...Limit) (*Filter, *filtertest.Clock) {
	t.Helper()
	c := Config{Limits: limits}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	clock := filtertest.NewClock()
	env := filtertest.NewEnv(nil)
	env.Clock = clock
	f, err := New(c, env)
	if err != nil {
		t.Fatal(err)
	}
	return f, clock
}

func connect(t testing.TB, f *Filter, client string) string {
	t.Helper()
	facts, err := f.Connect(t.Context(), filtertest.Connected(client))
	if err != nil {
		t.Fatal(err)
	}
	return facts.Connection
}

func mail(t testing.TB, f *Filter, client, sender string) string {
	t.Helper()
	facts, err := f.Mail(t.Context(), filtertest.Mailed(client, "h.example", sender))
	if err != nil {
		t.Fatal(err)
	}
	return facts.Message
}

func rcptView(client, sender, recipient string) filters.View {
	v := filtertest.Mailed(client, "h.example", sender)
	v.Recipient = &filters.Recipient{ForwardPath: recipient}
	return v
}

func rcpt(t testing.TB, f *Filter, client, sender, recipient string) string {
	t.Helper()
	facts, err := f.Rcpt(t.Context(), rcptView(client, sender, recipient))
	if err != nil {
		t.Fatal(err)
	}
	return facts.Recipient
}

func message(f *Filter, client, sender string, code int, ours bool, size int64) {
	f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: filtertest.Mailed(client, "h.example", sender), Code: code, Ours: ours, Size: size})
}

func recipient(f *Filter, client, sender, to string, code int, ours bool) {
	f.Concluded(&filters.Outcome{Kind: filters.RecipientOutcome, View: rcptView(client, sender, to), Code: code, Ours: ours})
}

func want(t testing.TB, what, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %q, want %q", what, got, wanted)
	}
}

func TestAConnectionAlwaysCounts(t *testing.T) {
	f, clock := newFilter(t, Limit{Name: "c", Count: "connections", Per: "client", Rate: rateOf(t, "3/1m")})
	for i := range 3 {
		want(t, fmt.Sprint("connection ", i), connect(t, f, "192.0.2.1"), "")
	}
	want(t, "the fourth", connect(t, f, "192.0.2.1"), "c")
	want(t, "another client", connect(t, f, "192.0.2.2"), "")
	clock.Advance(20 * time.Second)
	want(t, "after the time of one", connect(t, f, "192.0.2.1"), "")
	want(t, "and one more", connect(t, f, "192.0.2.1"), "c")
	clock.Advance(-time.Hour)
	want(t, "with the clock set back", connect(t, f, "192.0.2.1"), "c")
	clock.Advance(time.Minute)
	want(t, "the clock goes on from there", connect(t, f, "192.0.2.1"), "")
}

func TestAbandonedTransactionsCount(t *testing.T) {
	f, clock := newFilter(t,
		Limit{Name: "m", Count: "messages", Per: "client", Rate: rateOf(t, "1/1h")},
		Limit{Name: "a", Count: "abandoned", Per: "client", Rate: rateOf(t, "3/1h")})
	const client, sender = "192.0.2.1", "a@example.com"
	for range 3 {
		want(t, "before", mail(t, f, client, sender), "")
		message(f, client, sender, 0, false, 0) // refused, say: it was not the client who gave up
		f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: filtertest.Mailed(client, "h.example", sender), GivenUp: true})
	}
	want(t, "after three", mail(t, f, client, sender), "a")
	want(t, "after three, next connection", connect(t, f, client), "a")
	want(t, "another client", connect(t, f, "192.0.2.2"), "")
	clock.Advance(20 * time.Minute)
	want(t, "after the time of one", connect(t, f, client), "")
	message(f, client, sender, 250, false, 100)
	want(t, "a message costs none of these", mail(t, f, client, sender), "m")
}

func TestClientsAreNetworks(t *testing.T) {
	f, _ := newFilter(t, Limit{Name: "c", Count: "connections", Per: "client", Rate: rateOf(t, "1/1h")},
		Limit{Name: "wide", Count: "connections", Per: "client", Rate: rateOf(t, "3/1h"), IPv4Prefix: 24, IPv6Prefix: 48})
	for _, step := range []struct{ client, exceeded string }{
		{"2001:db8:0:1::1", ""}, {"2001:db8:0:1:ffff::2", "c"}, {"2001:db8:0:2::1", ""}, {"2001:db8:0:3::1", "wide"}, {"2001:db8:1:3::1", ""},
		{"192.0.2.1", ""}, {"::ffff:192.0.2.1", "c"}, {"192.0.2.2", ""}, {"192.0.2.3", "wide"}, {"192.0.3.1", ""},
	} {
		want(t, step.client, connect(t, f, step.client), step.exceeded)
	}
}

func TestOnlyWhatWeDidNotDeferCounts(t *testing.T) {
	f, clock := newFilter(t,
		Limit{Name: "m", Count: "messages", Per: "client", Rate: rateOf(t, "2/1h")},
		Limit{Name: "r", Count: "recipients", Per: "recipient", Rate: rateOf(t, "2/1h")})
	const client, sender, to = "192.0.2.1", "a@example.com", "b@example.org"
	for range 100 {
		message(f, client, sender, 451, true, 0)
		recipient(f, client, sender, to, 451, true)
		message(f, client, sender, 0, false, 0) // ended before it was a message
		f.Concluded(&filters.Outcome{Kind: filters.SessionOutcome, View: filtertest.Connected(client), Code: 221})
	}
	want(t, "after our deferrals", mail(t, f, client, sender), "")
	want(t, "after our deferrals", rcpt(t, f, client, sender, to), "")
	for _, reply := range []struct {
		code int
		ours bool
	}{{250, false}, {451, false}} {
		want(t, "before", mail(t, f, client, sender), "")
		want(t, "before", rcpt(t, f, client, sender, to), "")
		message(f, client, sender, reply.code, reply.ours, 100)
		recipient(f, client, sender, to, reply.code, reply.ours)
	}
	want(t, "after two", mail(t, f, client, sender), "m")
	want(t, "after two", rcpt(t, f, client, sender, strings.ToUpper(to)), "r")
	want(t, "another recipient", rcpt(t, f, client, sender, "c@example.org"), "")
	clock.Advance(30 * time.Minute)
	want(t, "after the time of one", mail(t, f, client, sender), "")
}

func TestDictionaryAttack(t *testing.T) {
	f, clock := newFilter(t, Limit{Name: "unknown", Count: "refused", Per: "client", Rate: rateOf(t, "3/1h")})
	for i := range 3 {
		to := fmt.Sprintf("user%d@example.org", i)
		want(t, to, rcpt(t, f, "192.0.2.1", "", to), "")
		recipient(f, "192.0.2.1", "", to, 250, false)
		recipient(f, "192.0.2.1", "", to, 550, i == 0)
	}
	want(t, "the next recipient", rcpt(t, f, "192.0.2.1", "", "x@example.org"), "unknown")
	want(t, "the next connection", connect(t, f, "192.0.2.1"), "unknown")
	want(t, "another client", connect(t, f, "192.0.2.2"), "")
	for range 50 {
		recipient(f, "192.0.2.1", "", "x@example.org", 451, true)
	}
	clock.Advance(20 * time.Minute)
	want(t, "after the time of one", rcpt(t, f, "192.0.2.1", "", "x@example.org"), "")
}

func TestSenderDomain(t *testing.T) {
	f, _ := newFilter(t, Limit{Name: "d", Count: "messages", Per: "sender_domain", Rate: rateOf(t, "1/1h")})
	message(f, "192.0.2.1", "a@Example.COM", 250, false, 1)
	message(f, "192.0.2.1", "", 250, false, 1)
	want(t, "the domain from elsewhere", mail(t, f, "198.51.100.1", "b@example.com"), "d")
	want(t, "another domain", mail(t, f, "192.0.2.1", "b@example.net"), "")
	want(t, "the null sender has no domain", mail(t, f, "192.0.2.1", ""), "")
}

func TestBytes(t *testing.T) {
	f, clock := newFilter(t, Limit{Name: "b", Count: "bytes", Per: "client", Rate: rateOf(t, "60MiB/1h"), Burst: Amount{N: 10 << 20, Bytes: true}})
	message(f, "192.0.2.1", "a@example.com", 250, false, 9<<20)
	want(t, "below the burst", mail(t, f, "192.0.2.1", "a@example.com"), "")
	message(f, "192.0.2.1", "a@example.com", 250, false, 1<<40)
	want(t, "far above", mail(t, f, "192.0.2.1", "a@example.com"), "b")
	want(t, "its next connection", connect(t, f, "192.0.2.1"), "b")
	clock.Advance(10*time.Minute + time.Second)
	want(t, "a message costs at most the burst", mail(t, f, "192.0.2.1", "a@example.com"), "")
}

func TestMemorySurvivesAReload(t *testing.T) {
	limit := Limit{Name: "c", Count: "connections", Per: "client", Rate: rateOf(t, "1/1h")}
	old, _ := newFilter(t, limit)
	connect(t, old, "192.0.2.1")
	same, _ := newFilter(t, limit, Limit{Name: "other", Count: "messages", Per: "client", Rate: rateOf(t, "1/1h")})
	same.Adopt(old)
	want(t, "the same limit", connect(t, same, "192.0.2.1"), "c")
	limit.Burst.N = 5
	changed, _ := newFilter(t, limit)
	changed.Adopt(same)
	want(t, "a changed limit", connect(t, changed, "192.0.2.1"), "")
}

func TestTheNumberOfBucketsIsBound(t *testing.T) {
	f, clock := newFilter(t, Limit{Name: "c", Count: "connections", Per: "client", Rate: rateOf(t, "5/1h")})
	const most = 1 << 16
	all := newBuckets(most)
	f.counter = all
	for range 5 {
		connect(t, f, "203.0.113.1")
	}
	for i := range most + most/4 {
		addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
		connect(t, f, addr.String())
	}
	if n := all.size(); n > most || n < most*9/10 {
		t.Errorf("%d buckets", n)
	}
	want(t, "who is over the limit is not pushed out", connect(t, f, "203.0.113.1"), "c")
	clock.Advance(time.Hour)
	before := all.size()
	for i := range 1000 {
		connect(t, f, fmt.Sprintf("198.51.%d.%d", i/250, i%250))
	}
	if after := all.size(); after > before-3000 {
		t.Errorf("full buckets stay: %d, then %d", before, after)
	}
}

// Whatever happens, no more passes than burst + rate × time, and one that waits long enough always passes.
func TestALimitHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := filtertest.NewClock()
		env := filtertest.NewEnv(nil)
		env.Clock = clock
		n, burst := rapid.Int64Range(1, 20).Draw(t, "n"), rapid.Int64Range(1, 20).Draw(t, "burst")
		f, err := New(Config{Limits: []Limit{{Name: "m", Count: "messages", Per: "client", Rate: Rate{Amount{N: n}, filters.Duration(time.Minute)}, Burst: Amount{N: burst}}}}, env)
		if err != nil {
			t.Fatal(err)
		}
		v := filtertest.Mailed("192.0.2.1", "h.example", "a@example.com")
		passed, start := int64(0), clock.Now()
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			clock.Advance(time.Duration(rapid.IntRange(0, 10_000).Draw(t, "ms")) * time.Millisecond)
			facts, _ := f.Mail(t.Context(), v)
			code, ours := 250, false
			if facts.Message != "" {
				code, ours = 451, true
			} else {
				passed++
			}
			f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: v, Code: code, Ours: ours})
		}
		if most := float64(burst) + float64(n)*clock.Now().Sub(start).Minutes() + 0.001; float64(passed) > most {
			t.Fatalf("%d passed, at most %.2f should", passed, most)
		}
		clock.Advance(time.Minute/time.Duration(n) + time.Millisecond)
		if facts, _ := f.Mail(t.Context(), v); facts.Message != "" {
			t.Fatal("does not pass after the time of one message")
		}
	})
}

func TestManySessionsAtOnce(t *testing.T) {
	f, _ := newFilter(t, Limit{Name: "c", Count: "connections", Per: "client", Rate: rateOf(t, "100/1h")},
		Limit{Name: "m", Count: "messages", Per: "client", Rate: rateOf(t, "100/1h")})
	const sessions = 16
	var wg sync.WaitGroup
	var mu sync.Mutex
	connected, passed := 0, 0
	for range sessions {
		wg.Go(func() {
			for range 50 {
				c, m := connect(t, f, "192.0.2.1"), mail(t, f, "192.0.2.1", "a@example.com")
				if m == "" {
					message(f, "192.0.2.1", "a@example.com", 250, false, 1)
				}
				mu.Lock()
				if c == "" {
					connected++
				}
				if m == "" {
					passed++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if connected != 100 || passed < 100 || passed > 100+sessions {
		t.Errorf("%d connections and %d messages passed a limit of 100 in %d sessions", connected, passed, sessions)
	}
}

func TestNoLimitsNoFilter(t *testing.T) {
	built, err := Spec.Build(&Config{}, filtertest.NewEnv(nil))
	if built != nil || err != nil {
		t.Errorf("%v, %v", built, err)
	}
	defaults := Spec.NewConfig().(*Config)
	if err := defaults.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	built, err = Spec.Build(defaults, filtertest.NewEnv(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range Spec.Observations {
		v := rcptView("192.0.2.1", "a@example.com", "b@example.org")
		if _, err := o.Observe(t.Context(), built, v); err != nil || !o.Inline {
			t.Errorf("%s: %v, inline %v", o.Stage, err, o.Inline)
		}
	}
}

func TestValidateNamesEveryMistake(t *testing.T) {
	good := Limit{Name: "a", Count: "messages", Per: "client", Rate: rateOf(t, "1/1h")}
	with := func(change func(*Limit)) Limit { l := good; change(&l); return l }
	for _, c := range []struct {
		key   string
		limit Limit
	}{
		{"limits[1].name", good},
		{"limits[1].name", with(func(l *Limit) { l.Name = "a b" })},
		{"limits[1].name", with(func(l *Limit) { l.Name = "" })},
		{"limits[1].count", with(func(l *Limit) { l.Count = "mails" })},
		{"limits[1].per", with(func(l *Limit) { l.Per = "recipient" })},
		{"limits[1].per", with(func(l *Limit) { l.Count, l.Per = "connections", "sender_domain" })},
		{"limits[1].rate", with(func(l *Limit) { l.Rate = Rate{} })},
		{"limits[1].rate", with(func(l *Limit) { l.Rate = rateOf(t, "1KiB/1h") })},
		{"limits[1].burst", with(func(l *Limit) { l.Burst.N = 1 << 40 })},
		{"limits[1].ipv4_prefix", with(func(l *Limit) { l.IPv4Prefix = 33 })},
		{"limits[1].ipv6_prefix", with(func(l *Limit) { l.IPv6Prefix = -1 })},
	} {
		if c.limit.Name == "a" && c.limit != good {
			c.limit.Name = "b"
		}
		config := Config{Limits: []Limit{good, c.limit}}
		err := config.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), c.key+":") || strings.Contains(err.Error(), ";") {
			t.Errorf("want only %s in %v", c.key, err)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]string{
		"60/1m": "60/1m", "1000/h": "1000/1h", "50MiB/1h": "50MiB/1h", " 5 / 10s ": "5/10s", "1/d": "1/1d", "100B/1m": "100B/1m", "1024/1h": "1024/1h", "2/1h30m": "2/1h30m",
	} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r.String() != want {
			t.Errorf("%q: %q, %v; want %q", text, r.String(), err, want)
		}
	}
	for _, text := range []string{"", "60", "/1m", "60/", "0/1m", "-1/1m", "60/0s", "60/31d", "x/1m", "60/x", "60/1m/1m", "60 per minute", "9999999999999999999/1s"} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken as %s", text, r)
		}
	}
}

func FuzzRate(f *testing.F) {
	for _, seed := range []string{"60/1m", "1000/h", "50MiB/1h", "100B/1m", "/", "1/d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var r, again Rate
		if r.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%q is %v, written %q, read %v, %v", text, r, r.String(), again, err)
		}
	})
}

func TestTheHotPathAllocatesOnlyItsFacts(t *testing.T) {
	env := filtertest.NewEnv(nil)
	f, err := New(Defaults(), env)
	if err != nil {
		t.Fatal(err)
	}
	v := rcptView("192.0.2.1", "a@example.com", "b@example.org")
	o := &filters.Outcome{Kind: filters.RecipientOutcome, View: v, Code: 250}
	f.Concluded(o)
	if n := testing.AllocsPerRun(100, func() { _, _ = f.Rcpt(t.Context(), v) }); n > 1 {
		t.Errorf("a look costs %.0f allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { f.Concluded(o) }); n > 0 {
		t.Errorf("an outcome costs %.0f allocations", n)
	}
}

func BenchmarkConnect(b *testing.B) {
	f, err := New(Defaults(), filtertest.NewEnv(nil))
	if err != nil {
		b.Fatal(err)
	}
	v := filtertest.Connected("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = f.Connect(b.Context(), v)
	}
}

// What is foreseen holds, however the recipients under way are answered: the next one is told the same as without them.
func TestForesight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := func(name, count, per string) Limit {
			n := rapid.Int64Range(1, 6).Draw(t, name)
			return Limit{Name: name, Count: count, Per: per, Rate: Rate{Amount: Amount{N: n}, Per: filters.Duration(time.Hour)}}
		}
		config := Config{Limits: []Limit{
			limit("recipients", countRecipients, perClient),
			limit("refused", countRefused, perSenderDomain),
			limit("mailbox", countRecipients, perRecipient),
		}}
		f, err := New(config, filtertest.NewEnv(nil))
		if err != nil {
			t.Fatal(err)
		}
		view := func() filters.View {
			v := filtertest.Mailed("192.0.2.9", "client.example.com", "s@example.com")
			v.Recipient = &filters.Recipient{ForwardPath: rapid.SampledFrom([]string{"a@example.org", "b@example.org"}).Draw(t, "recipient")}
			return v
		}
		told := func(v filters.View) string {
			facts, err := f.Rcpt(t.Context(), v)
			if err != nil {
				t.Fatal(err)
			}
			return facts.Recipient
		}
		var under []filters.View
		for range rapid.IntRange(0, 8).Draw(t, "before") {
			f.Concluded(&filters.Outcome{Kind: filters.RecipientOutcome, View: view(), Code: rapid.SampledFrom([]int{250, 550}).Draw(t, "code")})
		}
		next := view()
		for told(next) == "" {
			under = append(under, next)
			if !f.Foresees(next, len(under)) {
				return
			}
			next = view()
			if rapid.Bool().Draw(t, "answered") {
				break
			}
		}
		foreseen := told(next)
		for _, v := range under {
			f.Concluded(&filters.Outcome{Kind: filters.RecipientOutcome, View: v, Code: rapid.SampledFrom([]int{250, 451, 550}).Draw(t, "answer")})
		}
		if limit := told(next); limit != foreseen {
			t.Fatalf("%d answers later, %q is used up, and not %q", len(under), limit, foreseen)
		}
	})
}
