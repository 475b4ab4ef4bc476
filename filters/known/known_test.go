package known

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tb is a test, or a case of a property.
type tb interface {
	rapid.TB
	Context() context.Context
}

// site is the filter with its store and clock.
type site struct {
	t     tb
	f     *Filter
	store *counting
	clock *filtertest.Clock
}

// counting counts what the store is asked.
type counting struct {
	*filtertest.Store
	peeks, attempts int
	broken          bool
}

var errBroken = errors.New("broken")

func (s *counting) Peek(ctx context.Context, space string, keys []string) ([]filters.Mark, error) {
	s.peeks++
	if s.broken {
		return nil, errBroken
	}
	return s.Store.Peek(ctx, space, keys)
}

func (s *counting) Attempt(ctx context.Context, space string, keys []string, t filters.Terms) ([]filters.Mark, error) {
	s.attempts++
	if s.broken {
		return nil, errBroken
	}
	return s.Store.Attempt(ctx, space, keys, t)
}

func newSite(t tb, change ...func(*Config)) *site {
	env := filtertest.NewEnv(nil)
	store := &counting{Store: env.Store.(*filtertest.Store)}
	env.Store, env.Domains = store, []string{"example.org", ".ours.example"}
	config := Defaults()
	for _, c := range change {
		c(&config)
	}
	f, err := New(config, env)
	if err != nil {
		t.Fatal(err)
	}
	return &site{t, f, store, env.Clock.(*filtertest.Clock)}
}

// from is a transaction at MAIL of a client and a sender, whose domain SPF has proved unless it is empty.
var from = filtertest.Proved

// by is mail of a user.
func by(user string, recipients ...string) filters.View {
	v := filtertest.Mailed("192.0.2.99", "laptop.example", "anna@example.org")
	session, greeting := *v.Session, *v.Greeting
	session.Submission, greeting.AuthUser = true, user
	v.Session, v.Greeting, v.Facts = &session, &greeting, filtertest.Facts{}
	for _, r := range recipients {
		v.Recipients = append(v.Recipients, &filters.Recipient{ForwardPath: r})
	}
	return v
}

func (s *site) deliver(v filters.View) {
	s.f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: v, Code: 250})
	s.f.Flush(s.t.Context())
}

func (s *site) look(v filters.View) *Facts {
	s.t.Helper()
	facts, err := s.f.Mail(s.t.Context(), v)
	if err != nil {
		s.t.Fatal(err)
	}
	return facts
}

func (s *site) marks() (keys []string) {
	s.t.Helper()
	err := s.store.Range(s.t.Context(), space, "", func(key string, _ filters.Mark) bool {
		keys = append(keys, key)
		return true
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(keys)
	return keys
}

func (s *site) want(keys ...string) {
	s.t.Helper()
	if got := s.marks(); !slices.Equal(got, keys) {
		s.t.Errorf("the store has %q, want %q", got, keys)
	}
}

func TestWhoHasWrittenIsKnown(t *testing.T) {
	s := newSite(t)
	code := from("192.0.2.7", "codes-4711@shop.example", "Shop.Example.")
	if f := s.look(code); !f.Proved || f.Domain || f.Sender || f.Since != nil || f.Correspondent {
		t.Errorf("at first: %+v", f)
	}
	s.deliver(code)
	s.want("d:shop.example", "s:codes-#@shop.example")
	s.clock.Advance(time.Hour)
	f := s.look(from("2001:db8::7", "codes-4712@shop.example", "shop.example"))
	if !f.Sender || f.Messages != 1 || f.Since == nil || *f.Since != 3600 || !f.Domain || f.DomainMessages != 1 || *f.DomainSince != 3600 {
		t.Errorf("then: %+v", f)
	}
	other := s.look(from("198.51.100.7", "news@shop.example", "shop.example"))
	if other.Sender || other.Messages != 0 || other.Since != nil || !other.Domain {
		t.Errorf("another sender of it: %+v", other)
	}
	if f := s.look(from("192.0.2.7", "codes-4711@sub.shop.example", "sub.shop.example")); f.Domain || f.Sender {
		t.Errorf("a domain below it: %+v", f)
	}
	s.clock.Advance(91 * 24 * time.Hour)
	if f := s.look(code); f.Sender || f.Domain {
		t.Errorf("after keep: %+v", f)
	}
}

func TestWhatIsNotLearned(t *testing.T) {
	trusted := from("192.0.2.7", "a@example.com", "example.com")
	session := *trusted.Session
	session.Trusted = true
	trusted.Session = &session
	wide := from("192.0.2.7", "a@example.com", "example.com")
	wide.Facts.(filtertest.Facts)["spf.wide"] = true
	unsure := from("192.0.2.7", "a@example.com", "example.com")
	delete(unsure.Facts.(filtertest.Facts), "spf.wide")
	proved := from("192.0.2.7", "a@example.com", "example.com")
	for name, o := range map[string]filters.Outcome{
		"no proof":               {Kind: filters.MessageOutcome, Code: 250, View: from("192.0.2.7", "a@example.com", "")},
		"the HELO name's proof":  {Kind: filters.MessageOutcome, Code: 250, View: from("192.0.2.7", "a@example.com", "helo.example.com")},
		"a bounce":               {Kind: filters.MessageOutcome, Code: 250, View: from("192.0.2.7", "", "helo.example.com")},
		"a trusted relay":        {Kind: filters.MessageOutcome, Code: 250, View: trusted},
		"a wide record":          {Kind: filters.MessageOutcome, Code: 250, View: wide},
		"a record of what width": {Kind: filters.MessageOutcome, Code: 250, View: unsure},
		"kept in quarantine":     {Kind: filters.MessageOutcome, Code: 250, Ours: true, View: proved},
		"deferred":               {Kind: filters.MessageOutcome, Code: 451, View: proved},
		"given up":               {Kind: filters.MessageOutcome, View: proved},
		"a recipient":            {Kind: filters.RecipientOutcome, Code: 250, View: proved},
		"no transaction":         {Kind: filters.SessionOutcome, Code: 221, View: filtertest.Connected("192.0.2.7")},
		"a vacation":             {Kind: filters.MessageOutcome, Code: 250, View: func() filters.View { v := by("anna", "x@example.com"); v.Envelope = &filters.Envelope{}; return v }()},
		"mail among ourselves":   {Kind: filters.MessageOutcome, Code: 250, View: by("anna", "ben@example.org", "ben@mail.ours.example", "postmaster")},
	} {
		s := newSite(t)
		s.f.Concluded(&o)
		s.f.Flush(t.Context())
		if got := s.marks(); len(got) != 0 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestCorrespondents(t *testing.T) {
	s := newSite(t)
	s.deliver(by("anna", "Bob@Example.NET", "ben@example.org", "carol@bücher.example"))
	s.want("c:bob@example.net", "c:carol@xn--bcher-kva.example")
	if f := s.look(from("192.0.2.7", "bob@example.net", "example.net")); !f.Correspondent || f.Sender || f.Domain {
		t.Errorf("the answer: %+v", f)
	}
	if f := s.look(from("192.0.2.7", "bobby@example.net", "example.net")); f.Correspondent {
		t.Errorf("another: %+v", f)
	}
	local := by("", "dan@example.com")
	s.deliver(local)
	if f := s.look(from("192.0.2.7", "dan@example.com", "example.com")); !f.Correspondent {
		t.Errorf("mail without a name: %+v", f)
	}
	s.clock.Advance(181 * 24 * time.Hour)
	if f := s.look(from("192.0.2.7", "bob@example.net", "example.net")); f.Correspondent {
		t.Errorf("after its time: %+v", f)
	}
}

// Whatever is known of whom: who is not proved sees none of it, and one whose record lets everybody send is as little.
func TestWhoIsNotProvedNeverProfits(t *testing.T) {
	senders := []string{"a@one.example", "b@one.example", "a@two.example", "A+tag@ONE.example", ""}
	rapid.Check(t, func(t *rapid.T) {
		s := newSite(t)
		draw := func() filters.View {
			v := from("192.0.2.7", rapid.SampledFrom(senders).Draw(t, "sender"), "")
			facts := v.Facts.(filtertest.Facts)
			if result := rapid.SampledFrom([]string{"", "none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}).Draw(t, "spf"); result == "" {
				delete(facts, "spf.result")
			} else {
				facts["spf.result"] = result
			}
			facts["spf.domain"] = rapid.SampledFrom([]string{"one.example", "two.example", "helo.example.com", ""}).Draw(t, "domain")
			if rapid.Bool().Draw(t, "width is known") {
				facts["spf.wide"] = rapid.Bool().Draw(t, "wide")
			}
			return v
		}
		for range rapid.IntRange(0, 20).Draw(t, "messages") {
			if rapid.Bool().Draw(t, "a user's") {
				s.deliver(by("anna", rapid.SampledFrom(senders[:4]).Draw(t, "recipient")))
			} else {
				s.deliver(draw())
			}
		}
		v := draw()
		facts := v.Facts.(filtertest.Facts)
		_, domain := filters.SplitAddress(v.Envelope.ReversePath)
		isProved := facts["spf.result"] == "pass" && facts["spf.wide"] == false && domain != "" && facts["spf.domain"] == domain
		if got := s.look(v); got.Proved != isProved || !isProved && *got != (Facts{}) {
			t.Fatalf("%s with %v: %+v", v.Envelope.ReversePath, facts, got)
		}
	})
}

func TestAMessageCostsFewOperations(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	const messages = 5000
	for i := range messages {
		domain := fmt.Sprintf("d%c%c.example", 'a'+i%26, 'a'+i/26%20)
		v := from("192.0.2.7", "alice@"+domain, domain)
		s.look(v)
		s.f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: v, Code: 250})
		if i%50 == 49 { // a second has passed
			s.clock.Advance(time.Second)
			s.f.write(ctx, s.f.book.due(s.clock.Now()))
		}
	}
	s.f.Flush(ctx)
	if s.store.peeks != messages || s.store.attempts > messages/20 {
		t.Errorf("%d messages: %d looks and %d writes", messages, s.store.peeks, s.store.attempts)
	}
	total := 0
	for i := range 520 {
		domain := fmt.Sprintf("d%c%c.example", 'a'+i%26, 'a'+i/26%20)
		total += s.look(from("192.0.2.7", "alice@"+domain, domain)).Messages
	}
	if total != messages {
		t.Errorf("%d of %d messages were counted", total, messages)
	}
	before := s.store.peeks
	s.look(from("192.0.2.7", "alice@example.com", ""))
	if s.store.peeks != before {
		t.Error("a sender without proof costs a look")
	}
}

func TestWhatWasWrittenRests(t *testing.T) {
	s := newSite(t)
	v := from("192.0.2.7", "alice@example.com", "example.com")
	note := func(times int) {
		for range times {
			s.f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: v, Code: 250})
		}
		s.f.write(t.Context(), s.f.book.due(s.clock.Now()))
	}
	note(1)
	s.clock.Advance(30 * time.Second)
	note(4)
	if f := s.look(v); f.Messages != 1 || s.store.attempts != 1 {
		t.Errorf("after half a minute: %d messages, %d writes", f.Messages, s.store.attempts)
	}
	s.clock.Advance(2 * rest)
	note(0)
	if f := s.look(v); f.Messages != 5 || s.store.attempts != 2 {
		t.Errorf("after two minutes: %d messages, %d writes", f.Messages, s.store.attempts)
	}
}

func TestBounds(t *testing.T) {
	s := newSite(t, func(c *Config) { c.NewSenders, c.NewCorrespondents = 3, 2 })
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin"} {
		s.deliver(from("192.0.2.7", name+"@example.com", "example.com"))
	}
	s.want("d:example.com", "s:alice@example.com", "s:bob@example.com", "s:carol@example.com")
	old := from("192.0.2.7", "zoe@example.com", "example.com")
	old.Facts.(filtertest.Facts)["known.sender"] = true // she was before
	s.deliver(old)
	if got := s.marks(); !slices.Contains(got, "s:zoe@example.com") {
		t.Errorf("who is known is not renewed: %q", got)
	}
	s.clock.Advance(time.Hour)
	s.deliver(from("192.0.2.7", "dave@example.com", "example.com"))
	if f := s.look(from("192.0.2.7", "dave@example.com", "example.com")); !f.Sender || f.DomainMessages != 7 {
		t.Errorf("in the next hour: %+v", f)
	}

	s.deliver(by("anna", "a@example.net", "b@example.net", "a@example.net", "c@example.net"))
	s.deliver(by("ben", "d@example.net"))
	if got := s.marks()[:3]; !slices.Equal(got, []string{"c:a@example.net", "c:b@example.net", "c:d@example.net"}) {
		t.Errorf("correspondents: %q", got)
	}
	if n := s.f.Memories()[1].Stats().Refused; n != 1 {
		t.Errorf("refused %d", n)
	}

	for i := range maxNotes + 5 {
		s.f.book.note(fmt.Sprintf("s:%d@example.com", i), time.Hour)
	}
	if stats := s.f.Memories()[0].Stats(); stats.Dropped != 5 || stats.Pending != maxNotes {
		t.Errorf("%+v", stats)
	}
	q := newQuota(time.Hour)
	for i := range 2 * maxQuotas {
		q.take(fmt.Sprint(i), 1, s.clock.Now())
	}
	if len(q.spent) > maxQuotas+1 {
		t.Errorf("%d are counted", len(q.spent))
	}
}

func TestABrokenStore(t *testing.T) {
	s := newSite(t)
	s.store.broken = true
	v := from("192.0.2.7", "alice@example.com", "example.com")
	if _, err := s.f.Mail(t.Context(), v); !errors.Is(err, errBroken) {
		t.Errorf("known: %v", err)
	}
	s.deliver(v)
	if stats := s.f.Memories()[0].Stats(); stats.Noted != 2 || stats.Dropped != 2 || stats.Written != 0 || stats.Pending != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestTheRunnerWritesAndTheNextFilterGoesOn(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.f.Run(ctx); close(done) }()
	next := newSite(t)
	next.f.store = s.store
	next.f.Adopt(s.f)
	next.f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: from("192.0.2.7", "alice@example.com", "example.com"), Code: 250})
	cancel()
	<-done
	s.want("d:example.com", "s:alice@example.com")
}

func TestOperators(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	for _, v := range []filters.View{
		from("192.0.2.7", "alice@example.com", "example.com"), from("192.0.2.7", "bounce-17@example.com", "example.com"),
		from("192.0.2.7", "carol@mail.example.com", "mail.example.com"), by("anna", "bob@example.net"),
	} {
		s.deliver(v)
	}
	senders, correspondents := s.f.Memories()[0], s.f.Memories()[1]
	list := func(m filters.Memory, query string) string {
		t.Helper()
		var found []string
		err := m.List(ctx, query, func(l filters.Learned) bool {
			if len(l.Values) != len(m.Kind().Columns) || l.Count == 0 || l.Expires.IsZero() {
				t.Errorf("%+v", l)
			}
			found = append(found, l.What)
			return true
		})
		if err != nil {
			t.Errorf("%q: %v", query, err)
		}
		slices.Sort(found)
		return strings.Join(found, " ")
	}
	for query, want := range map[string]string{
		"":                        "alice@example.com bounce-#@example.com carol@mail.example.com example.com mail.example.com",
		"Example.COM.":            "alice@example.com bounce-#@example.com example.com",
		"<bounce-99@example.com>": "bounce-#@example.com",
		"alice+tag@example.com":   "alice@example.com",
		"nobody@example.com":      "",
	} {
		if got := list(senders, query); got != want {
			t.Errorf("%q: %s; want %s", query, got, want)
		}
	}
	if got := list(correspondents, "BOB@example.net") + list(correspondents, "example.net") + list(correspondents, "example.com"); got != "bob@example.netbob@example.net" {
		t.Errorf("correspondents: %s", got)
	}
	for _, query := range []string{"x", "@example.com", "a b", "192.0.2.0/24"} {
		if err := senders.List(ctx, query, func(filters.Learned) bool { return true }); err == nil {
			t.Errorf("%q was understood", query)
		}
	}
	if n, err := senders.Forget(ctx, "example.com"); n != 3 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if n, err := correspondents.Forget(ctx, "bob@example.net"); n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if _, err := senders.Forget(ctx, " "); err == nil {
		t.Error("everything can be forgotten by accident")
	}
	s.want("d:mail.example.com", "s:carol@mail.example.com")
}

func TestKeysOfOneSenderLiveTogether(t *testing.T) {
	s := identify(from("192.0.2.7", "bounce-17@mta3.Example.com", "mta3.example.com"))
	for _, key := range []string{s.domainKey(), s.senderKey(), correspondentKey(s.local, s.domain)} {
		if home := filters.Home(key); home != "mta3.example.com" {
			t.Errorf("%s lives at %s", key, home)
		}
	}
}

func TestConfig(t *testing.T) {
	c := Defaults()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	bad := Config{Keep: 1, KeepCorrespondents: filters.Duration(1 << 62), NewSenders: -1, NewCorrespondents: 2_000_000}
	err := bad.Validate()
	for _, key := range []string{"keep", "keep_correspondents", "new_senders", "new_correspondents"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := New(c, filters.Env{}); err == nil {
		t.Error("it needs no store")
	}
}

func BenchmarkMail(b *testing.B) {
	s := newSite(b)
	v := from("192.0.2.7", "alice@example.com", "example.com")
	s.deliver(v)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.f.Mail(b.Context(), v); err != nil {
			b.Fatal(err)
		}
	}
}

// Nearly all spam has no proof: for it the filter costs nothing.
func TestASenderWithoutProofAllocatesNothing(t *testing.T) {
	s := newSite(t)
	v := from("192.0.2.7", "alice@example.com", "")
	v.Session.Client = filters.ClientAt(netip.MustParseAddrPort("192.0.2.7:25"))
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() { _, _ = s.f.Mail(ctx, v) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
