package exception

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func newFilter(t testing.TB) (*Filter, filters.Env) {
	t.Helper()
	env := filtertest.NewEnv(filtertest.NewZone())
	f, err := New(Defaults(), env)
	if err != nil {
		t.Fatal(err)
	}
	return f, env
}

func day(n int) filters.Duration { return filters.Duration(time.Duration(n) * 24 * time.Hour) }

func add(t testing.TB, f *Filter, action Action, value string) *Entry {
	t.Helper()
	e, err := f.Add(t.Context(), Request{Action: action, Value: value, For: day(30), Why: "because"}, "root")
	if err != nil {
		t.Fatalf("%s %s: %v", action, value, err)
	}
	return e
}

// states asks at all three stages.
func states(t testing.TB, f *Filter, client, sender, recipient string) string {
	t.Helper()
	v := filtertest.Mailed(client, "mail.example.net", sender)
	v.Recipient = &filters.Recipient{ForwardPath: recipient}
	c, err := f.Connect(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.Mail(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Rcpt(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return c.Client + " " + m.Sender + " " + r.Recipient
}

func TestTheFormTellsTheKind(t *testing.T) {
	f, _ := newFilter(t)
	for value, want := range map[string]string{
		"192.0.2.7":             "client 192.0.2.7/32",
		"[192.0.2.7]":           "client 192.0.2.7/32",
		"::ffff:192.0.2.7":      "client 192.0.2.7/32",
		"192.0.2.0/24":          "client 192.0.2.0/24",
		"2001:db8::/32":         "client 2001:db8::/32",
		"Bob@Example.NET":       "sender bob@example.net",
		"<bob@example.net>":     "sender bob@example.net",
		"bob@bücher.example":    "sender bob@xn--bcher-kva.example",
		"example.net":           "sender example.net",
		"@example.net":          "sender example.net",
		".Example.net.":         "sender .example.net",
		"alice@example.org":     "recipient alice@example.org",
		"example.org":           "recipient example.org",
		"alice@sub.example.org": "sender alice@sub.example.org",
	} {
		e := add(t, f, Allow, value)
		if got := string(e.Kind) + " " + e.Value; got != want {
			t.Errorf("%q is %q, want %q", value, got, want)
		}
	}
	if e, err := f.Add(t.Context(), Request{Action: Block, Kind: Sender, Value: "example.org", For: day(1)}, "root"); err != nil || e.Kind != Sender {
		t.Errorf("an explicit kind: %+v, %v", e, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	f, _ := newFilter(t)
	for _, r := range []Request{
		{Action: Allow, Value: "", For: day(1)},
		{Action: Allow, Value: "192.0.2.7/24", For: day(1)},
		{Action: Allow, Value: "0.0.0.0/0", For: day(1)},
		{Action: Allow, Value: "fe80::1%eth0", For: day(1)},
		{Action: Allow, Value: "localhost", For: day(1)},
		{Action: Allow, Value: "<>", For: day(1)},
		{Action: Allow, Value: "a b.example", For: day(1)},
		{Action: Allow, Value: "bob\t@example.net", For: day(1)},
		{Action: Allow, Value: "bob@.example.net", For: day(1)},
		{Action: Allow, Value: strings.Repeat("a", 250) + "@example.net", For: day(1)},
		{Action: Allow, Kind: Client, Value: "example.net", For: day(1)},
		{Action: Allow, Kind: "domain", Value: "example.net", For: day(1)},
		{Action: "pass", Value: "example.net", For: day(1)},
		{Action: Allow, Value: "example.net"},
		{Action: Allow, Value: "example.net", For: day(367)},
		{Action: Allow, Value: "example.net", For: day(1), Why: "two\nlines"},
		{Action: Allow, Value: "example.net", For: day(1), Why: strings.Repeat("x", maxWhy+1)},
	} {
		if e, err := f.Add(t.Context(), r, "root"); err == nil {
			t.Errorf("%+v was taken: %+v", r, e)
		}
	}
	if list, err := f.List(t.Context(), Allow); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

func TestTheNarrowestCounts(t *testing.T) {
	f, _ := newFilter(t)
	if got := states(t, f, "192.0.2.7", "bob@example.net", "alice@example.org"); got != "none none none" {
		t.Errorf("of nothing: %s", got)
	}
	add(t, f, Block, "192.0.2.0/24")
	add(t, f, Allow, "192.0.2.7")
	add(t, f, Block, ".example.net")
	add(t, f, Allow, "mail.example.net")
	add(t, f, Block, "bob@mail.example.net")
	add(t, f, Block, "example.org")
	add(t, f, Allow, "alice@example.org")
	for _, c := range []struct{ client, sender, recipient, want string }{
		{"192.0.2.7", "ann@mail.example.net", "Alice@EXAMPLE.org", "allowed allowed allowed"},
		{"192.0.2.8", "BOB@Mail.Example.NET", "carol@example.org", "blocked blocked blocked"},
		{"192.0.3.7", "ann@example.net", "carol@sub.example.org", "none blocked none"},
		{"::ffff:192.0.2.7", "ann@deep.below.example.net", "postmaster", "allowed blocked none"},
		{"2001:db8::1", "", "alice@notexample.org", "none none none"},
		{"2001:db8::1", "ann@notexample.net", "@", "none none none"},
	} {
		if got := states(t, f, c.client, c.sender, c.recipient); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.client, c.sender, c.recipient, got, c.want)
		}
	}
}

func TestReasonsAreFacts(t *testing.T) {
	f, _ := newFilter(t)
	add(t, f, Block, "192.0.2.7")
	if c, err := f.Connect(t.Context(), filtertest.Connected("192.0.2.7")); err != nil || c.ClientWhy == nil || *c.ClientWhy != "because" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := f.Connect(t.Context(), filtertest.Connected("192.0.2.8")); err != nil || c.ClientWhy != nil {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestExceptionsEnd(t *testing.T) {
	f, env := newFilter(t)
	clock := env.Clock.(*filtertest.Clock)
	add(t, f, Block, "192.0.2.0/24")
	if _, err := f.Add(t.Context(), Request{Action: Allow, Value: "192.0.2.7", For: day(1)}, "root"); err != nil {
		t.Fatal(err)
	}
	clock.Advance(25 * time.Hour)
	if got := states(t, f, "192.0.2.7", "", ""); got != "blocked none none" {
		t.Errorf("when the narrow one has ended: %s", got)
	}
	clock.Advance(30 * 24 * time.Hour)
	if got := states(t, f, "192.0.2.7", "", ""); got != "none none none" {
		t.Errorf("when both have ended: %s", got)
	}
}

func TestANewOneTakesThePlaceOfTheOld(t *testing.T) {
	f, _ := newFilter(t)
	add(t, f, Allow, "bob@example.net")
	add(t, f, Block, "bob@example.net")
	allowed, _ := f.List(t.Context(), Allow)
	blocked, err := f.List(t.Context(), Block)
	if err != nil || len(allowed) != 0 || len(blocked) != 1 || blocked[0].By != "root" || blocked[0].Why != "because" {
		t.Errorf("%v, %v, %v", allowed, blocked, err)
	}
	if n, err := f.Remove(t.Context(), Request{Action: Allow, Value: "bob@example.net"}); err != nil || n != 0 {
		t.Errorf("the other action's was removed: %d, %v", n, err)
	}
	if n, err := f.Remove(t.Context(), Request{Action: Block, Value: "BOB@example.net"}); err != nil || n != 1 {
		t.Errorf("removed %d, %v", n, err)
	}
	if got := states(t, f, "192.0.2.7", "bob@example.net", ""); got != "none none none" {
		t.Errorf("afterwards: %s", got)
	}
}

// Another filter on the same store, as after a restart or in another process, knows them; one that has adopted knows
// them at once.
func TestExceptionsOutlastTheFilter(t *testing.T) {
	f, env := newFilter(t)
	add(t, f, Block, "192.0.2.7")
	restarted, _ := New(Defaults(), env)
	if got := states(t, restarted, "192.0.2.7", "", ""); got != "blocked none none" {
		t.Errorf("after a restart: %s", got)
	}
	reloaded, _ := New(Defaults(), env)
	reloaded.Adopt(restarted)
	add(t, restarted, Allow, "192.0.2.7")
	if got := states(t, reloaded, "192.0.2.7", "", ""); got != "allowed none none" {
		t.Errorf("after a reload: %s", got)
	}
}

// brokenStore answers nothing while down is set.
type brokenStore struct {
	filters.Store
	down   bool
	ranged int
}

func (s *brokenStore) Range(ctx context.Context, space, prefix string, yield func(string, filters.Mark) bool) error {
	s.ranged++
	if s.down {
		return errors.New("down")
	}
	return s.Store.Range(ctx, space, prefix, yield)
}

func TestADeadStoreIsAskedOnceAndSaysSo(t *testing.T) {
	env := filtertest.NewEnv(filtertest.NewZone())
	s := &brokenStore{Store: env.Store, down: true}
	env.Store = s
	f, _ := New(Defaults(), env)
	for range 3 {
		if _, err := f.Connect(t.Context(), filtertest.Connected("192.0.2.7")); !errors.Is(err, errUnread) {
			t.Errorf("%v", err)
		}
	}
	if s.ranged != 1 {
		t.Errorf("asked %d times", s.ranged)
	}
	s.down = false
	add(t, f, Block, "192.0.2.7")
	s.down = true // what is known stays in force
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	cancel()
	<-done
	if got := states(t, f, "192.0.2.7", "", ""); got != "blocked none none" {
		t.Errorf("%s", got)
	}
}

func TestWithoutExceptionsNothingIsAllocated(t *testing.T) {
	f, _ := newFilter(t)
	v := filtertest.Mailed("192.0.2.7", "mail.example.net", "bob@example.net")
	v.Recipient = &filters.Recipient{ForwardPath: "alice@example.org"}
	states(t, f, "192.0.2.7", "bob@example.net", "alice@example.org")
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_, _ = f.Connect(ctx, v)
		_, _ = f.Mail(ctx, v)
		_, _ = f.Rcpt(ctx, v)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What an operator has taken away is found by nobody, and what he has put there by exactly those that it is about.
func TestKeysSayEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ -~äöü]{0,60}`)
		e := &Entry{
			Action: rapid.SampledFrom([]Action{Allow, Block}).Draw(t, "action"), Kind: rapid.SampledFrom(Kinds).Draw(t, "kind"),
			Value: text.Draw(t, "value"), By: text.Draw(t, "by"), Why: text.Draw(t, "why"),
		}
		if got, ok := parseKey(e.key()); !ok || *got != *e {
			t.Fatalf("%+v became %+v", e, got)
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"192.0.2.7", "192.0.2.0/24", "bob@example.net", ".example.org", "<>", "@", "[::1]", "a@b@c.d", "ü@ü.example", "@0", "@@a.b", ".xyz", "@ @0", "@@@0", "<<a@b.c>", `"a b"@c.d`} {
		f.Add(seed)
	}
	filter := &Filter{memory: &memory{}, domains: []string{"example.org", ".below.example"}}
	f.Fuzz(func(t *testing.T, text string) {
		kind, value, err := filter.target("", text)
		if err != nil {
			return
		}
		if strings.ContainsAny(value, "\t\r\n\x00") || value == "" {
			t.Fatalf("%q became %q", text, value)
		}
		again, same, err := filter.target(kind, value)
		if err != nil || again != kind || same != value {
			t.Fatalf("%q became %s %q, and that %s %q, %v", text, kind, value, again, same, err)
		}
	})
}

func BenchmarkConnect(b *testing.B) {
	for _, n := range []int{0, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f, _ := newFilter(b)
			entries := make([]*Entry, n)
			for i := range entries {
				ip := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
				entries[i] = &Entry{Action: Block, Kind: Client, Value: ip.String(), Expires: filtertest.Start.Add(time.Hour)}
			}
			f.index.Store(newIndex(entries))
			v := filtertest.Connected("192.0.2.7")
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Connect(b.Context(), v)
			}
		})
	}
}
