package greylist

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// named is a transaction without SPF from a client with a confirmed name.
func named(client, name, sender string) filters.View {
	v := from(client, sender, "")
	facts := v.Facts.(filtertest.Facts)
	facts["rdns.confirmed"], facts["rdns.name"] = true, name
	return v
}

func (s *site) deliver(v filters.View, signers ...string) {
	s.t.Helper()
	v.Facts.(filtertest.Facts)["dkim.domains"] = signers
	s.f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: v, Code: 250})
	s.f.drain(s.t.Context())
}

func (s *site) pools(query string) (list []string) {
	s.t.Helper()
	err := s.f.Memories()[0].List(s.t.Context(), query, func(l filters.Learned) bool {
		list = append(list, l.What+" "+strings.Join(l.Values, " "))
		return true
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

func TestAPoolWithoutSPFPassesOnItsHostNames(t *testing.T) {
	s := newSite(t)
	s.want(named("192.0.2.7", "a7.out.pool.example", "alice@example.com"), filters.GreylistNew)
	s.clock.Advance(6 * time.Minute)
	s.want(named("203.0.113.9", "b9.other.example", "alice@example.com"), filters.GreylistNew)
	s.want(named("198.51.100.9", "b9.out.pool.example", "bob@example.com"), filters.GreylistNew)
	s.want(named("198.51.100.9", "b9.out.pool.example", "alice@example.com"), filters.GreylistPassed)
}

func TestSignedMailTeachesThePool(t *testing.T) {
	s := newSite(t)
	s.deliver(named("192.0.2.7", "a7.out.pool.example", "alice@mail.example.com"), "example.com", "pool.example")
	if got := s.pools(""); len(got) != 1 || got[0] != "mail.example.com DKIM *.out.pool.example" {
		t.Errorf("pools: %q", got)
	}
	s.want(named("198.51.100.9", "b9.out.pool.example", "bob@mail.example.com"), filters.GreylistPassed)
	s.want(named("198.51.100.9", "b9.out.pool.example", "bob@example.net"), filters.GreylistNew)
	s.want(named("198.51.100.9", "b9.pool.example", "bob@mail.example.com"), filters.GreylistNew)
	// What SPF says of this one counts more than what signed mail has taught.
	forged := named("198.51.100.9", "b9.out.pool.example", "eve@mail.example.com")
	forged.Facts.(filtertest.Facts)["spf.result"] = "fail"
	s.want(forged, filters.GreylistNew)
	s.clock.Advance(34 * 24 * time.Hour)
	s.deliver(named("192.0.2.7", "a7.out.pool.example", "alice@mail.example.com"), "example.com")
	s.clock.Advance(34 * 24 * time.Hour)
	s.want(named("198.51.100.9", "b9.out.pool.example", "bob@mail.example.com"), filters.GreylistPassed)
	s.clock.Advance(36 * 24 * time.Hour)
	s.want(named("198.51.100.9", "b9.out.pool.example", "bob@mail.example.com"), filters.GreylistNew)
}

func TestWhatTeachesNoPool(t *testing.T) {
	for name, v := range map[string]filters.View{
		"another's signature":        named("192.0.2.7", "a7.out.pool.example", "alice@other.example"),
		"a name without proof":       from("192.0.2.7", "alice@example.com", ""),
		"a name made of the address": named("192.0.2.7", "host-192-0-2-7.access.example", "alice@example.com"),
		"a proved domain":            from("192.0.2.7", "alice@example.com", "example.com"),
		"a bounce":                   named("192.0.2.7", "a7.out.pool.example", ""),
	} {
		s := newSite(t)
		s.deliver(v, "example.com")
		if marks := s.marks(); len(marks) != 0 {
			t.Errorf("%s: %q", name, marks)
		}
	}
	for _, change := range []func(o *filters.Outcome){
		func(o *filters.Outcome) { o.Code = 451 },
		func(o *filters.Outcome) { o.Ours = true },
		func(o *filters.Outcome) {
			session := *o.View.Session
			session.Trusted = true
			o.View.Session = &session
		},
		func(o *filters.Outcome) {
			session := *o.View.Session
			session.Submission = true
			o.View.Session = &session
		},
	} {
		s := newSite(t)
		v := named("192.0.2.7", "a7.out.pool.example", "alice@example.com")
		v.Facts.(filtertest.Facts)["dkim.domains"] = []string{"example.com"}
		o := &filters.Outcome{Kind: filters.MessageOutcome, View: v, Code: 250}
		change(o)
		s.f.Concluded(o)
		s.f.drain(t.Context())
		if marks := s.marks(); len(marks) != 0 {
			t.Errorf("%+v: %q", o, marks)
		}
	}
}

// Whatever else is true of them: whom everybody may send for, and whose record cannot be read now, never has a pool.
func TestADomainThatLetsEverybodySendNeverHasAPool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSite(t)
		for range rapid.IntRange(1, 20).Draw(t, "messages") {
			client := netip.AddrFrom4([4]byte{198, 51, byte(rapid.IntRange(0, 99).Draw(t, "network")), byte(rapid.IntRange(1, 250).Draw(t, "host"))})
			v := named(client.String(), "mx.out.wide.example", rapid.SampledFrom([]string{"a@wide.example", "b@wide.example"}).Draw(t, "sender"))
			facts := v.Facts.(filtertest.Facts)
			facts["spf.result"] = rapid.SampledFrom([]string{"pass", "temperror"}).Draw(t, "spf")
			if facts["spf.result"] == "pass" {
				facts["spf.domain"], facts["spf.wide"] = "wide.example", true
			}
			if rapid.Bool().Draw(t, "delivered") {
				facts["dkim.domains"] = []string{"wide.example"}
				s.f.Concluded(&filters.Outcome{Kind: filters.MessageOutcome, View: v, Code: 250})
				s.f.drain(t.Context())
			} else {
				s.attempt(v)
			}
			s.clock.Advance(time.Duration(rapid.IntRange(0, 600).Draw(t, "pause")) * time.Second)
		}
		for _, mark := range s.marks() {
			if !strings.HasPrefix(mark, "n:") {
				t.Fatalf("a pool: %s", mark)
			}
		}
		s.want(named("203.0.113.5", "mx.out.wide.example", "a@wide.example"), filters.GreylistNew)
	})
}

func TestPoolsAreListedAndForgotten(t *testing.T) {
	s := newSite(t)
	for range 2 {
		for i, domain := range []string{"example.com", "example.net", "example.com.example.net"} {
			v := from(fmt.Sprintf("192.0.2.%d", i), "a@"+domain, domain)
			if _, err := s.f.Attempt(t.Context(), v); err != nil {
				t.Fatal(err)
			}
		}
		s.clock.Advance(6 * time.Minute)
	}
	s.want(from("192.0.2.7", "x@waits.example", "waits.example"), filters.GreylistNew)
	s.deliver(named("192.0.2.7", "a7.out.pool.example", "alice@example.com"), "example.com")
	if got := s.pools("Example.COM."); len(got) != 2 || got[0] != "example.com DKIM *.out.pool.example" || got[1] != "example.com SPF those of its record" {
		t.Errorf("pools: %q", got)
	}
	if got := s.pools(""); len(got) != 4 {
		t.Errorf("pools: %q", got)
	}
	pools := s.f.Memories()[0]
	if n, err := pools.Forget(t.Context(), "example.com"); n != 2 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if got := s.pools(""); len(got) != 2 {
		t.Errorf("left: %q", got)
	}
	for _, query := range []string{"", " "} {
		if _, err := pools.Forget(t.Context(), query); err == nil {
			t.Errorf("%q forgets everything", query)
		}
	}
	if err := pools.List(t.Context(), "a@example.com", func(filters.Learned) bool { return true }); err == nil {
		t.Error("an address was taken for a domain")
	}
}

func TestHosts(t *testing.T) {
	for _, test := range []struct{ client, name, want string }{
		{"192.0.2.7", "mta17.out.mail.example", "out.mail.example"},
		{"192.0.2.7", "Mail.Example.ORG.", "example.org"},
		{"192.0.2.7", "example.co.uk", "example.co.uk"},
		{"192.0.2.7", "co.uk", ""},
		{"192.0.2.7", "localhost", ""},
		{"192.0.2.7", "a0-7.smtp-out.example.com", "smtp-out.example.com"},
		{"192.0.2.7", "7.2.0.192.access.example", ""},
		{"192.0.2.7", "p192-000-002-007.access.example", ""},
		{"192.0.2.7", "192000002007.access.example", ""},
		{"192.0.2.7", "dsl-c0000207.access.example", ""},
		{"10.10.10.7", "mx10.out10.example.com", "out10.example.com"},
		{"2001:db8:1:2::25", "mta.out.example.com", "out.example.com"},
		{"2001:db8:1:2:3ab:4cd:5ef:6ab", "2001-db8-1-2-3ab-4cd-5ef-6ab.access.example", ""},
		{"2001:db8:1:2:a1b2:c3d4:e5f6:789a", "a1b2c3d4e5f6789a.access.example", ""},
	} {
		facts := filtertest.Facts{"rdns.confirmed": true, "rdns.name": test.name}
		if got := hosts(facts, netip.MustParseAddr(test.client)); got != test.want {
			t.Errorf("%s of %s: %q, want %q", test.name, test.client, got, test.want)
		}
		facts["rdns.confirmed"] = false
		if got := hosts(facts, netip.MustParseAddr(test.client)); got != "" {
			t.Errorf("%s, not confirmed: %q", test.name, got)
		}
	}
}

func FuzzHosts(f *testing.F) {
	f.Add("192.0.2.7", "mta17.out.mail.example")
	f.Add("2001:db8::1", "2001-db8--1.access.example")
	f.Fuzz(func(t *testing.T, client, name string) {
		addr, err := netip.ParseAddr(client)
		if err != nil {
			return
		}
		group := hosts(filtertest.Facts{"rdns.confirmed": true, "rdns.name": name}, addr)
		if group != "" && !strings.HasSuffix(normalDomain(name), group) {
			t.Errorf("%q of %s is of %q", name, client, group)
		}
	})
}
