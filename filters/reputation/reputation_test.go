package reputation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

const trapAddress = "jobs-2009@example.org"

func newFilter(t testing.TB, change func(*Config)) (*Filter, filters.Env) {
	t.Helper()
	c := Spec.NewConfig().(*Config)
	c.Traps = []string{"Jobs-2009@Example.org", "traps.example.org"}
	if change != nil {
		change(c)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	env := filtertest.NewEnv(nil)
	built, err := Spec.Build(c, env)
	if err != nil {
		t.Fatal(err)
	}
	return built.(*Filter), env
}

// transaction is one from 192.0.2.7, whose domain SPF proves.
type transaction struct {
	view       filters.View
	recipients []filters.Outcome // Code, Enhanced, Ours, Reasons
	addresses  []string
	end        filters.Outcome
}

func from(client, sender string) *transaction {
	v := filtertest.Mailed(client, "mail.example.net", sender)
	_, domain := filters.SplitAddress(sender)
	v.Facts = filtertest.Facts{"spf.result": "pass", "spf.wide": false, "spf.domain": domain}
	return &transaction{view: v}
}

func (x *transaction) rcpt(address string, o filters.Outcome) *transaction {
	x.addresses, x.recipients = append(x.addresses, address), append(x.recipients, o)
	return x
}

func (x *transaction) ends(o filters.Outcome) *transaction {
	x.end = o
	return x
}

// happens tells the filter of all that.
func (x *transaction) happens(f *Filter) {
	v := x.view
	for i, o := range x.recipients {
		o.Kind, o.View = filters.RecipientOutcome, v
		o.View.Recipient = &filters.Recipient{ForwardPath: x.addresses[i]}
		f.Concluded(&o)
		if o.Code == 250 {
			v.Recipients = append(v.Recipients, o.View.Recipient)
		}
	}
	o := x.end
	o.Kind, o.View = filters.MessageOutcome, v
	f.Concluded(&o)
	o = filters.Outcome{Kind: filters.SessionOutcome, View: filters.View{Session: v.Session}}
	f.Concluded(&o)
}

var (
	taken       = filters.Outcome{Code: 250}
	nobody      = filters.Outcome{Code: 550, Enhanced: "5.1.1"}
	greylisted  = filters.Outcome{Code: 451, Enhanced: "4.7.1", Ours: true}
	theirDefer  = filters.Outcome{Code: 452, Enhanced: "4.2.2"}
	listed      = filters.Outcome{Code: 554, Enhanced: "5.7.1", Ours: true, Reasons: []string{"dnsbl.score"}}
	byHistory   = filters.Outcome{Code: 550, Enhanced: "5.7.1", Ours: true, Reasons: []string{"reputation.network_trapped"}}
	asTrap      = filters.Outcome{Code: 550, Enhanced: "5.1.1", Ours: true, Reasons: []string{"reputation.trap"}}
	none        = filters.Outcome{}
	givenUp     = filters.Outcome{GivenUp: true}
	excused     = filters.Outcome{Code: 250, Excused: true}
	theirRefuse = filters.Outcome{Code: 554, Enhanced: "5.7.1"}
	discarded   = filters.Outcome{Code: 250, Ours: true, Reasons: []string{"dkim.result"}}
)

// known is what is known of 192.0.2.0/24 and of a domain.
func known(t testing.TB, f *Filter, domain string) (network, ofDomain filters.Counts) {
	t.Helper()
	s, err := f.ledger.Standings(t.Context(), []string{"n:192.0.2.0/24", "d:" + domain})
	if err != nil {
		t.Fatal(err)
	}
	return s[0].Counts, s[1].Counts
}

func TestWhatATransactionCountsAs(t *testing.T) {
	const alice, bob, carol = "alice@example.org", "bob@example.org", "carol@example.org"
	mail := func() *transaction { return from("192.0.2.7", "news@shop.example.net") }
	bounce := func() *transaction { return from("192.0.2.7", "") }
	in := func(change func(*filters.View)) *transaction {
		x := mail().rcpt(alice, taken).ends(taken)
		session := *x.view.Session
		x.view.Session = &session
		change(&x.view)
		return x
	}
	delivered, refused, unknown, trapped := filters.Counts{Delivered: 1}, filters.Counts{Refused: 1}, filters.Counts{Unknown: 1}, filters.Counts{Trapped: 1}
	for name, test := range map[string]struct {
		x    *transaction
		want filters.Counts
	}{
		"delivered":                           {mail().rcpt(alice, taken).ends(taken), delivered},
		"to three, counted once":              {mail().rcpt(alice, taken).rcpt(bob, taken).rcpt(carol, taken).ends(taken), delivered},
		"one of two is gone":                  {mail().rcpt(alice, taken).rcpt(bob, nobody).ends(taken), delivered},
		"most do not exist":                   {mail().rcpt(alice, taken).rcpt(bob, nobody).rcpt(carol, nobody).ends(taken), unknown},
		"none exists":                         {mail().rcpt(bob, nobody).ends(none), unknown},
		"none exists, and DATA all the same":  {mail().rcpt(bob, nobody).ends(listed), unknown},
		"refused by a rule at RCPT":           {mail().rcpt(alice, listed).ends(none), refused},
		"refused by a rule at the end":        {mail().rcpt(alice, taken).ends(listed), refused},
		"refused by the backend at the end":   {mail().rcpt(alice, taken).ends(theirRefuse), refused},
		"refused for its history at RCPT":     {mail().rcpt(alice, byHistory).ends(none), filters.Counts{}},
		"refused for its history at the end":  {mail().rcpt(alice, taken).ends(byHistory), filters.Counts{}},
		"refused by the proxy, for no rule":   {mail().rcpt(alice, taken).ends(filters.Outcome{Code: 552, Ours: true}), filters.Counts{}},
		"greylisted":                          {mail().rcpt(alice, greylisted).rcpt(bob, greylisted).ends(none), filters.Counts{}},
		"told to come back by the backend":    {mail().rcpt(alice, theirDefer).ends(none), filters.Counts{}},
		"told to come back at the end":        {mail().rcpt(alice, taken).ends(filters.Outcome{Code: 451}), filters.Counts{}},
		"given up":                            {mail().rcpt(alice, taken).ends(givenUp), filters.Counts{}},
		"nothing happened":                    {mail().ends(none), filters.Counts{}},
		"came through by bypass":              {mail().rcpt(alice, taken).ends(excused), filters.Counts{}},
		"thrown away":                         {mail().rcpt(alice, taken).ends(discarded), filters.Counts{}},
		"to a trap":                           {mail().rcpt(trapAddress, asTrap).ends(none), trapped},
		"to a trap, thrown away":              {mail().rcpt("JOBS-2009@example.ORG", taken).ends(discarded), trapped},
		"to a trap's domain, by bypass":       {mail().rcpt("any@traps.example.org", taken).ends(excused), trapped},
		"to a trap and to somebody":           {mail().rcpt(alice, taken).rcpt(trapAddress, asTrap).ends(taken), trapped},
		"to a trap, greylisted":               {mail().rcpt(trapAddress, greylisted).ends(none), trapped},
		"to two traps":                        {mail().rcpt(trapAddress, asTrap).rcpt("x@traps.example.org", asTrap).ends(none), trapped},
		"a bounce, delivered":                 {bounce().rcpt(alice, taken).ends(taken), delivered},
		"a bounce to nobody":                  {bounce().rcpt(bob, nobody).ends(none), filters.Counts{}},
		"a bounce to a trap":                  {bounce().rcpt(trapAddress, asTrap).ends(none), filters.Counts{}},
		"of a trusted client":                 {in(func(v *filters.View) { v.Session.Trusted = true }), filters.Counts{}},
		"by submission":                       {in(func(v *filters.View) { v.Session.Submission = true }), filters.Counts{}},
		"of a user who has signed in":         {in(func(v *filters.View) { v.Greeting = &filters.Greeting{AuthUser: "ann"} }), filters.Counts{}},
		"unknown, but for its history so far": {mail().rcpt(alice, byHistory).rcpt(bob, nobody).ends(none), unknown},
	} {
		f, _ := newFilter(t, nil)
		test.x.happens(f)
		network, domain := known(t, f, "shop.example.net")
		wantDomain := test.want
		if test.x.view.Envelope.ReversePath == "" {
			wantDomain = filters.Counts{}
		}
		if network != test.want || domain != wantDomain {
			t.Errorf("%s: %+v, %+v; want %+v", name, network, domain, test.want)
		}
		if len(f.trials.open) != 0 {
			t.Errorf("%s: the transaction is kept", name)
		}
	}
}

// A spammer can write anybody's domain on an envelope: nothing is learned of it unless SPF proves it.
func TestForeignDomainsAreNotSpoilt(t *testing.T) {
	for name, facts := range map[string]filtertest.Facts{
		"fail":         {"spf.result": "fail", "spf.wide": false, "spf.domain": "bank.example.net"},
		"none":         {"spf.result": "none", "spf.wide": false, "spf.domain": "bank.example.net"},
		"wide":         {"spf.result": "pass", "spf.wide": true, "spf.domain": "bank.example.net"},
		"not known":    {},
		"another name": {"spf.result": "pass", "spf.wide": false, "spf.domain": "evil.bank.example.net"},
	} {
		f, _ := newFilter(t, nil)
		x := from("192.0.2.7", "boss@bank.example.net").rcpt(trapAddress, asTrap).ends(none)
		x.view.Facts = facts
		x.happens(f)
		if network, domain := known(t, f, "bank.example.net"); network.Trapped != 1 || domain != (filters.Counts{}) {
			t.Errorf("%s: %+v, %+v", name, network, domain)
		}
	}
}

func TestRetriesOfOneMessageHitATrapOnce(t *testing.T) {
	f, env := newFilter(t, nil)
	send := func(sender string) {
		from("192.0.2.7", sender).rcpt(trapAddress, greylisted).ends(none).happens(f)
	}
	for range 5 {
		send("a@shop.example.net")
		env.Clock.(*filtertest.Clock).Advance(5 * time.Minute)
	}
	send("b@shop.example.net")
	network, _ := known(t, f, "shop.example.net")
	if n := network.Trapped; n < 1.9 || n > 2 {
		t.Errorf("%v hits of two messages", n)
	}
	env.Clock.(*filtertest.Clock).Advance(48 * time.Hour)
	send("a@shop.example.net")
	if network, _ = known(t, f, "shop.example.net"); network.Trapped < 2.7 {
		t.Errorf("a message two days later is one of its own: %v", network)
	}
	for i := range 10 * maxRetries {
		f.retries.isNew(fmt.Sprint(i), filtertest.Start)
	}
	if n := len(f.retries.late) + len(f.retries.before); n > 2*maxRetries {
		t.Errorf("%d retries are known", n)
	}
}

func TestFacts(t *testing.T) {
	f, env := newFilter(t, nil)
	look := func(sender string) *Facts {
		facts, err := f.Mail(t.Context(), from("192.0.2.99", sender).view)
		if err != nil {
			t.Fatal(err)
		}
		return facts
	}
	if got := look("a@shop.example.net"); got.NetworkScore != nil || got.NetworkMessages != 0 || got.Domain != "shop.example.net" || got.DomainScore != nil || *got.DomainMessages != 0 {
		t.Errorf("of a stranger: %+v", got)
	}
	for i := range 20 {
		sender := fmt.Sprint("a", i, "@", []string{"shop", "junk"}[i%2], ".example.net")
		x := from("192.0.2.7", sender)
		if i%2 == 0 {
			x.rcpt("alice@example.org", taken).ends(taken)
		} else {
			x.rcpt(trapAddress, asTrap).ends(none)
		}
		x.happens(f)
	}
	shop, junk := look("a@shop.example.net"), look("a@junk.example.net")
	if *shop.DomainScore != 6.67 || *junk.DomainScore != -9.52 || *junk.DomainTrapped != 10 {
		t.Errorf("%v, %v, %v", *shop.DomainScore, *junk.DomainScore, *junk.DomainTrapped)
	}
	if shop.NetworkMessages != 20 || *shop.NetworkScore != *junk.NetworkScore {
		t.Errorf("%+v", shop)
	}
	if got := look(""); got.Domain != "" || got.DomainMessages != nil || got.DomainTrapped != nil {
		t.Errorf("of a bounce: %+v", got)
	}
	env.Clock.(*filtertest.Clock).Advance(30 * 24 * time.Hour)
	if got := look("a@shop.example.net"); *got.DomainMessages != 5 || *got.DomainScore != 5 {
		t.Errorf("a half-life later: %v, %v", *got.DomainMessages, *got.DomainScore)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if facts, err := f.Mail(ctx, from("192.0.2.99", "").view); err == nil {
		t.Errorf("without an answer of the store: %+v", facts)
	}
	v := from("192.0.2.7", "").view
	for address, want := range map[string]bool{"JOBS-2009@example.org": true, "jobs@example.org": false, "x@Traps.example.org.": true, "x@sub.traps.example.org": false, "postmaster": false} {
		v.Recipient = &filters.Recipient{ForwardPath: address}
		if got, err := f.Rcpt(t.Context(), v); err != nil || got.Trap != want {
			t.Errorf("%s: %v, %v", address, got, err)
		}
	}
}

// A score says as much as is known: it lies between its bounds, and more good mail never lowers it, more evil never
// raises it.
func TestTheScoreIsFair(t *testing.T) {
	f, _ := newFilter(t, func(c *Config) { c.Minimum = 1 })
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Float64Range(0, filters.MaxCount)
		c := filters.Counts{Delivered: n.Draw(t, "d") + 1, Refused: n.Draw(t, "r"), Unknown: n.Draw(t, "u"), Trapped: n.Draw(t, "t")}
		more := rapid.Float64Range(0, 1000).Draw(t, "more")
		better, worse := c, c
		better.Delivered += more
		worse.Trapped += more
		if a, b, w := *f.score(c), *f.score(better), *f.score(worse); a < -10 || a > 10 || b < a || w > a {
			t.Fatal(a, b, w)
		}
	})
}

func list(t *testing.T, m filters.Memory, query string) (lines []string) {
	t.Helper()
	if err := m.List(t.Context(), query, func(l filters.Learned) bool {
		lines = append(lines, fmt.Sprintf("%s %s %d", l.What, strings.Join(l.Values, ","), l.Count))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return lines
}

// run lets the filter write down what waits.
func run(f *Filter) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	f.Run(ctx)
}

func TestOperatorsSeeAndForget(t *testing.T) {
	f, _ := newFilter(t, nil)
	for i := range 3 { // three networks
		from(fmt.Sprintf("198.51.%d.7", 100+i), "a@junk.example.net").rcpt(trapAddress, asTrap).ends(none).happens(f)
	}
	from("192.0.2.7", "a@shop.example.com").rcpt("alice@example.org", taken).ends(taken).happens(f)
	run(f)
	memory := f.Memories()
	history, traps := memory[0], memory[1]
	for query, want := range map[string]int{
		"": 6, "192.0.2.200": 1, "198.51.0.0/16": 3, "example.net": 1, "junk.example.net.": 1, "ample.net": 0, "203.0.113.1": 0,
	} {
		if got := list(t, history, query); len(got) != want {
			t.Errorf("%q: %q", query, got)
		}
	}
	if got := list(t, history, "192.0.2.7"); len(got) != 1 || got[0] != "192.0.2.0/24 ,1.0,0.0,0.0,0.0 1" {
		t.Errorf("%q", got)
	}
	if err := history.List(t.Context(), "no such thing", func(filters.Learned) bool { return true }); err == nil {
		t.Error("a query that is none is taken")
	}
	if got := list(t, traps, ""); len(got) != 1 || got[0] != trapAddress+" clients 3" {
		t.Errorf("%q", got)
	}
	if got := list(t, traps, "Jobs-2009@example.org"); len(got) != 4 {
		t.Errorf("%q", got)
	}
	for _, m := range memory {
		if _, err := m.Forget(t.Context(), " "); err == nil {
			t.Error("everything was forgotten")
		}
	}
	if n, err := traps.Forget(t.Context(), trapAddress); n != 4 || err != nil || len(list(t, traps, "")) != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := history.Forget(t.Context(), "198.51.0.0/16"); n != 3 || err != nil || len(list(t, history, "")) != 3 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestATrapThatUsersWriteToIsReported(t *testing.T) {
	f, _ := newFilter(t, nil)
	var log strings.Builder
	f.log = slog.New(slog.NewTextHandler(&log, nil))
	x := from("192.0.2.7", "ann@example.org").rcpt(trapAddress, taken).ends(taken)
	x.view.Session.Submission = true
	x.happens(f)
	run(f)
	if got := list(t, f.Memories()[1], ""); len(got) != 1 || got[0] != trapAddress+" our own users 1" {
		t.Errorf("%q", got)
	}
	if !strings.Contains(log.String(), "trap="+trapAddress) {
		t.Errorf("no warning: %s", log.String())
	}
}

// A flood neither fills memory nor holds up a session.
func TestFloodsAreBounded(t *testing.T) {
	f, _ := newFilter(t, nil)
	v := from("192.0.2.7", "a@example.net").view
	for i := range maxTrials + 10 {
		o := filters.Outcome{Kind: filters.RecipientOutcome, Code: 550, Enhanced: "5.1.1", View: v}
		o.View.Envelope = &filters.Envelope{ReversePath: fmt.Sprint(i, "@example.net")}
		o.View.Recipient = &filters.Recipient{ForwardPath: trapAddress}
		f.Concluded(&o)
	}
	if len(f.trials.open) > maxTrials || len(f.hits) > maxHits || f.missed.Load() == 0 {
		t.Errorf("%d trials, %d hits", len(f.trials.open), len(f.hits))
	}
}

func TestReloadKeepsWhatIsUnderWay(t *testing.T) {
	old, _ := newFilter(t, nil)
	x := from("192.0.2.7", "a@shop.example.net")
	o := nobody
	o.Kind, o.View = filters.RecipientOutcome, x.view
	o.View.Recipient = &filters.Recipient{ForwardPath: "bob@example.org"}
	old.Concluded(&o)
	next, _ := newFilter(t, nil)
	next.Adopt(old)
	end := filters.Outcome{Kind: filters.MessageOutcome, View: x.view}
	next.Concluded(&end)
	if network, _ := known(t, next, "shop.example.net"); network.Unknown != 1 {
		t.Errorf("%+v", network)
	}
}

func TestConfiguration(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"half_life":   func(c *Config) { c.HalfLife = 0 },
		"keep_hits":   func(c *Config) { c.KeepHits = 0 },
		"minimum":     func(c *Config) { c.Minimum = 0 },
		"ipv4_prefix": func(c *Config) { c.IPv4Prefix = 33 },
		"ipv6_prefix": func(c *Config) { c.IPv6Prefix = 8 },
		"traps[0]":    func(c *Config) { c.Traps = []string{"Postmaster@example.org"} },
		"traps[1]":    func(c *Config) { c.Traps = []string{"x@example.org", "x@"} },
		"traps[2]":    func(c *Config) { c.Traps = []string{"x@example.org", "example.org", "a b@example"} },
	} {
		c := Defaults()
		change(&c)
		var bad filters.KeyErrors
		if err := c.Validate(); !errors.As(err, &bad) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
