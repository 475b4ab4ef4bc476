package dnsbl

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPointsOfAll are the test points of five lists; v4.test knows no IPv6.
const testPointsOfAll = `
2.0.0.127.bl.test        A 127.0.0.2
2.0.0.127.second.test    A 127.0.0.2
2.0.0.127.white.test     A 127.0.0.2
2.0.0.127.v4.test        A 127.0.0.2
2.0.0.127.s3cr3t.keyed.test A 127.0.0.2
test.names.test          A 127.0.1.2
2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.bl.test A 127.0.0.2
`

const entries = `
9.2.0.192.bl.test        A 127.0.0.4
9.2.0.192.bl.test        A 127.0.0.11
9.2.0.192.second.test    A 127.0.0.2
10.2.0.192.bl.test       A 127.0.0.200
11.2.0.192.bl.test       A 203.0.113.1
12.2.0.192.white.test    A 127.0.3.1
12.2.0.192.bl.test       A 127.0.0.2
13.2.0.192.second.test   TIMEOUT
14.2.0.192.bl.test       A 127.255.255.254
13.2.0.192.s3cr3t.keyed.test A 127.0.0.2
6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test A 127.0.0.2
bad.example.com.names.test A 127.0.1.2
xn--bcher-kva.example.names.test A 127.0.1.2
`

func codes(pairs ...any) map[string]float64 {
	m := map[string]float64{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1].(float64)
	}
	return m
}

var (
	block  = Zone{Zone: "bl.test", Codes: codes("127.0.0.2-127.0.0.9", 4.0, "127.0.0.10-127.0.0.11", 1.0)}
	second = Zone{Zone: "Second.Test.", Name: "the second", Codes: codes("127.0.0.2", 2.0)}
	white  = Zone{Zone: "white.test", Codes: codes("127.0.3.0-127.0.3.255", -3.0)}
	v4only = Zone{Zone: "v4.test", Codes: codes("127.0.0.2", 1.0)}
	keyed  = Zone{Zone: "keyed.test", Key: filters.NewSecret("s3cr3t"), Codes: codes("127.0.0.2", 4.0)}
	names  = Zone{Zone: "names.test", Kind: "domain", Codes: codes("127.0.1.2", 5.0)}
)

type fixture struct {
	*Filter
	zone  *filtertest.Zone
	clock *filtertest.Clock
	log   *bytes.Buffer
}

func newFilter(t testing.TB, zone string, lists ...Zone) *fixture {
	t.Helper()
	c := Config{Zones: lists}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	z := filtertest.MustParseZone(zone)
	env := filtertest.NewEnv(z)
	var log bytes.Buffer
	env.Log = slog.New(slog.NewTextHandler(&log, nil))
	f, err := New(c, env)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{f, z, env.Clock.(*filtertest.Clock), &log}
}

func (f *fixture) client(t testing.TB, ip string) *ClientFacts {
	t.Helper()
	facts, err := f.Client(t.Context(), filtertest.Connected(ip))
	if err != nil {
		t.Fatalf("%s: %v", ip, err)
	}
	return facts
}

func TestClient(t *testing.T) {
	for _, c := range []struct {
		name                    string
		client                  string
		lists                   []Zone
		score                   any
		listed, allowed, failed string
	}{
		{"on no list", "192.0.2.1", []Zone{block, second}, 0.0, "", "", ""},
		{"each range counts once, lists add up", "192.0.2.9", []Zone{block, second}, 7.0, "bl.test the second", "", ""},
		{"IPv4 in IPv6", "::ffff:192.0.2.9", []Zone{block}, 5.0, "bl.test", "", ""},
		{"a code that has no weight", "192.0.2.10", []Zone{block}, 0.0, "", "", ""},
		{"an answer that is none", "192.0.2.11", []Zone{block}, 0.0, "", "", ""},
		{"credit", "192.0.2.12", []Zone{block, white}, 1.0, "bl.test", "white.test", ""},
		{"one list does not answer", "192.0.2.13", []Zone{block, second}, 0.0, "", "", "the second"},
		{"a list refuses", "192.0.2.14", []Zone{block, second}, 0.0, "", "", "bl.test"},
		{"key", "192.0.2.13", []Zone{keyed}, 4.0, "keyed.test", "", ""},
		{"IPv6", "2001:db8::6", []Zone{block}, 4.0, "bl.test", "", ""},
		{"a list that knows no IPv6 is passed over", "2001:db8::6", []Zone{block, v4only}, 4.0, "bl.test", "", ""},
		{"no list knows IPv6", "2001:db8::6", []Zone{v4only}, nil, "", "", ""},
		{"only lists of domains", "192.0.2.9", []Zone{names}, nil, "", "", ""},
		{"private", "10.0.0.1", []Zone{block}, 0.0, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFilter(t, testPointsOfAll+entries, c.lists...)
			for range 2 { // the first question tests the lists, the second finds them tested
				got := f.client(t, c.client)
				var score any
				if got.Score != nil {
					score = *got.Score
				}
				if score != c.score || strings.Join(got.Listed, " ") != c.listed || strings.Join(got.Allowed, " ") != c.allowed ||
					strings.Join(got.Failed, " ") != c.failed {
					t.Errorf("score %v, listed %q, allowed %q, failed %q; want %+v", score, got.Listed, got.Allowed, got.Failed, c)
				}
			}
		})
	}
}

func TestPrivateClientsAreNotAskedAbout(t *testing.T) {
	f := newFilter(t, testPointsOfAll, block)
	for _, ip := range []string{"127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.1.1", "0.0.0.0", "::1", "fe80::1", "fd00::1", "::ffff:10.0.0.1"} {
		if got := f.client(t, ip); *got.Score != 0 {
			t.Errorf("%s: %v", ip, *got.Score)
		}
	}
	if n := f.zone.Queries(); n != 0 {
		t.Errorf("%d questions were asked", n)
	}
}

func TestNoListAnswers(t *testing.T) {
	f := newFilter(t, testPointsOfAll+"1.2.0.192.bl.test TIMEOUT\n1.2.0.192.second.test SERVFAIL", block, second)
	if got, err := f.Client(t.Context(), filtertest.Connected("192.0.2.1")); err == nil {
		t.Errorf("facts without an answer: %+v", got)
	}
}

func TestSlowListDoesNotHoldTheOthersBack(t *testing.T) {
	f := newFilter(t, testPointsOfAll+entries+"9.2.0.192.v4.test SILENT", block, v4only, second)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	got, err := f.Client(ctx, filtertest.Connected("192.0.2.9"))
	if err != nil || *got.Score != 7 || !slices.Equal(got.Failed, []string{"v4.test"}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name string
		want any
	}{
		{"bad.example.com", 5.0}, {"BAD.example.COM.", 5.0}, {"good.example.com", 0.0}, {"bücher.example", 5.0},
		{"", 0.0}, {"localhost", 0.0}, {"192.0.2.1", 0.0}, {"[192.0.2.1]", 0.0}, {"a\x00b.example.com", 0.0},
		{strings.Repeat("a.", 200) + "example", 0.0},
	} {
		f := newFilter(t, testPointsOfAll+entries, block, names)
		v := filtertest.Mailed("192.0.2.1", c.name, "user@"+c.name)
		v.Facts = filtertest.Facts{"rdns.name": c.name}
		helo, err := f.Helo(t.Context(), v)
		check(t, "EHLO "+c.name, helo.Score, helo.Listed, err, c.want)
		sender, err := f.Sender(t.Context(), v)
		check(t, "sender "+c.name, sender.Score, sender.Listed, err, c.want)
		client, err := f.ClientName(t.Context(), v)
		check(t, "client "+c.name, client.Score, client.Listed, err, c.want)
	}
	f := newFilter(t, testPointsOfAll, names)
	if got, err := f.ClientName(t.Context(), filtertest.Connected("192.0.2.1")); err == nil {
		t.Errorf("facts about a client whose name is not known: %+v", got)
	}
	if got, err := f.Sender(t.Context(), filtertest.Mailed("192.0.2.1", "a.example", "")); err != nil || *got.Score != 0 {
		t.Errorf("the null sender: %+v, %v", got, err)
	}
	f = newFilter(t, testPointsOfAll, block)
	if got, err := f.Helo(t.Context(), filtertest.Greeted("192.0.2.1", "a.example")); err != nil || got.Score != nil {
		t.Errorf("without a list of domains: %+v, %v", got, err)
	}
	if got, err := f.ClientName(t.Context(), filtertest.Connected("192.0.2.1")); err != nil || got.Score != nil {
		t.Errorf("without a list of domains: %+v, %v", got, err)
	}
}

func check(t *testing.T, what string, score *float64, listed []string, err error, want any) {
	t.Helper()
	if err != nil || score == nil || *score != want || (len(listed) > 0) != (*score > 0) {
		t.Errorf("%s: %v, %v, %v; want %v", what, score, listed, err, want)
	}
}

func TestNothingToDo(t *testing.T) {
	if f, err := New(Defaults(), filtertest.NewEnv(filtertest.NewZone())); f != nil || err != nil {
		t.Errorf("%v, %v", f, err)
	}
}

// TestKeyIsNeverShown makes everything fail that can and looks for the key in all that comes out.
func TestKeyIsNeverShown(t *testing.T) {
	f := newFilter(t, "2.0.0.127.s3cr3t.keyed.test A 127.0.0.2\n9.2.0.192.s3cr3t.keyed.test TIMEOUT\n8.2.0.192.s3cr3t.keyed.test A 127.255.255.255", keyed)
	for _, ip := range []string{"192.0.2.9", "192.0.2.8", "192.0.2.8"} {
		_, err := f.Client(t.Context(), filtertest.Connected(ip))
		if err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", ip, err)
		}
	}
	if strings.Contains(f.log.String(), "s3cr3t") || !strings.Contains(f.log.String(), "keyed.test") {
		t.Errorf("log: %s", f.log)
	}
	bad := Config{Zones: []Zone{{Zone: "keyed.test", Key: filters.NewSecret("s3 cr3t"), Codes: codes("127.0.0.2", 1.0)}}}
	if err := bad.Validate(); err == nil || strings.Contains(err.Error(), "cr3t") {
		t.Errorf("mistake: %v", err)
	}
}

func TestAnyViewIsHarmless(t *testing.T) {
	f := newFilter(t, testPointsOfAll+entries, block, names)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[-_a-zA-Z0-9.]{0,300}`)).Draw(t, "name")
		v := filtertest.Mailed("192.0.2.1", name, rapid.String().Draw(t, "local")+"@"+name)
		v.Facts = filtertest.Facts{"rdns.name": name}
		if _, err := f.Helo(context.Background(), v); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Sender(context.Background(), v); err != nil {
			t.Fatal(err)
		}
		if domain, ok := toDomain(name); ok && strings.ContainsAny(domain, "\r\n\x00 \"\\@[") {
			t.Fatalf("%q became the domain %q", name, domain)
		}
	})
}

func TestReversed(t *testing.T) {
	z := filtertest.MustParseZone("192.0.2.109 PTR a.example\n2001:db8:a0f::1 PTR b.example")
	for ip, suffix := range map[string]string{"192.0.2.109": "in-addr.arpa", "2001:db8:a0f::1": "ip6.arpa"} {
		addr := filtertest.Connected(ip).Session.Client.IP
		if records, _ := z.Find(reversed(addr) + suffix); len(records) != 1 {
			t.Errorf("%s is asked as %s", ip, reversed(addr))
		}
	}
}

func BenchmarkClient(b *testing.B) {
	f := newFilter(b, testPointsOfAll+entries, block, second, white)
	v := filtertest.Connected("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Client(context.Background(), v); err != nil {
			b.Fatal(err)
		}
	}
}

func TestManySessionsAtOnce(t *testing.T) {
	f := newFilter(t, testPointsOfAll+entries, block, second, white, v4only, names)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := f.client(t, "192.0.2.9"); *got.Score != 7 {
				t.Errorf("score %v", *got.Score)
			}
		})
	}
	wg.Wait()
}
