package arc

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// look runs the filter over a message as a client at 192.0.2.1 sends it.
func look(t *testing.T, resolver filters.Resolver, trusted []string, text string) *Facts {
	t.Helper()
	config := Config{TrustedSealers: trusted}
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	f, err := New(config, filtertest.NewEnv(resolver))
	if err != nil {
		t.Fatal(err)
	}
	v := filtertest.Mailed("192.0.2.1", "mx.example.net", "alice@example.com")
	v.Message = newMessage(text)
	defer v.Message.Release()
	facts, err := f.Message(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

func TestChainOfThreeWithEveryCanonicalizationAndAlgorithm(t *testing.T) {
	zone := filtertest.NewZone()
	_, edKey, _ := ed25519.GenerateKey(nil)
	for _, canonical := range []string{"relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple", "simple", "relaxed"} {
		text := letter
		for i, domain := range []string{"one.example", "two.example", "three.example"} {
			s := newSigner(zone, domain)
			s.canonical = canonical
			if i == 1 {
				s.key = edKey
				s.publish(zone)
			}
			text = s.seal(text)
			if c := validateText(t, zone, text); c.result != Pass || len(c.sets) != i+1 {
				t.Errorf("%s, set %d: %s, %s", canonical, i+1, c.result, c.reason)
			}
		}
	}
}

func TestNoChain(t *testing.T) {
	zone := filtertest.NewZone()
	for _, text := range []string{"", "\r\nbody", letter, "no header at all", "ARC-Seals: i=1\r\n\r\n", "XARC-Seal: i=1\r\n\r\n", "ARC: 1\r\n\r\n"} {
		facts := look(t, zone, []string{"one.example"}, text)
		if facts.Result != "none" || *facts.Trusted || *facts.RecordedDMARC != "" || facts.Instances != 0 {
			t.Errorf("%q: %+v", text, facts)
		}
	}
	if zone.Queries() != 0 {
		t.Errorf("%d queries", zone.Queries())
	}
}

// TestWhatBreaksAChain changes a good chain of two sets.
func TestWhatBreaksAChain(t *testing.T) {
	zone := filtertest.NewZone()
	good := newSigner(zone, "two.example").seal(newSigner(zone, "one.example").seal(letter))
	replace := func(old, new string) func(string) string {
		return func(text string) string {
			if !strings.Contains(text, old) {
				panic(old + " is not in the message")
			}
			return strings.Replace(text, old, new, 1)
		}
	}
	for _, test := range []struct {
		name, reason string
		change       func(string) string
	}{
		{"nothing", "", replace("", "")},
		{"a field on top", "", replace("", "X-New: x\r\n")},
		{"body", "ARC-Message-Signature 2: the body was changed", replace("test", "Test")},
		{"body appended", "ARC-Message-Signature 2: the body was changed", func(s string) string { return s + "x" }},
		{"signed field", "ARC-Message-Signature 2: the signature does not match", replace("hello", "Hello")},
		{"older seal", "ARC-Seal 2: the signature does not match", replace("cv=none;", "cv=none; y=1;")},
		{"results", "ARC-Seal 2: the signature does not match", replace("dmarc=pass", "dmarc=fail")},
		{"second results", "there are two of ARC-Authentication-Results 1", replace("", "ARC-Authentication-Results: i=1; x; none\r\n")},
		{"missing results", "ARC-Authentication-Results 2 is missing", replace("ARC-Authentication-Results: i=2", "X: i=2")},
		{"missing set", "ARC-Authentication-Results 3 is missing", replace("", "ARC-Seal: i=3; cv=pass\r\n")},
		{"gap", "ARC-Authentication-Results 3 is missing", replace("", "ARC-Authentication-Results: i=4; x; none\r\nARC-Seal: i=4; cv=pass\r\nARC-Message-Signature: i=4\r\n")},
		{"51 sets", "an instance is not within 1 and 50", replace("", "ARC-Seal: i=51; cv=pass\r\n")},
		{"huge instance", "an ARC-Seal has no number in i=", replace("", "ARC-Seal: i=18446744073709551617; cv=pass\r\n")},
		{"i=0", "an instance is not within 1 and 50", replace("", "ARC-Authentication-Results: i=0; x; none\r\n")},
		{"no instance", "an ARC-Authentication-Results does not begin with i= and a semicolon", replace("", "ARC-Authentication-Results: x; i=3; none\r\n")},
		{"no end of comment", "an ARC-Authentication-Results does not begin with i= and a semicolon", replace("", "ARC-Authentication-Results: (i=3; none\r\n")},
		{"no tags", "an ARC-Seal has a malformed list of tags", replace("", "ARC-Seal:\r\n")},
		{"cv", "ARC-Seal 2: cv= is not pass", replace("cv=pass", "cv=none")},
		{"cv of the first", "ARC-Seal 1: cv= is not none", replace("cv=none", "cv=pass")},
		{"ended", "the newest seal says that the chain had failed before", replace("", "ARC-Seal: i=3; cv=fail\r\n")},
		{"h= in a seal", "ARC-Seal 2: h= is not allowed", replace("cv=pass;", "cv=pass; h=from;")},
		{"seal in h=", "ARC-Message-Signature 2: h= holds ARC-Seal", replace("h=from:", "h=arc-seal:from:")},
		{"no h=", "ARC-Message-Signature 2: h= is missing", replace("h=", "hh=")},
		{"l=", "ARC-Message-Signature 2: l= leaves the end of the body unsigned", replace("h=", "l=1; h=")},
		{"x= passed", "ARC-Message-Signature 2: x= is no time, or has passed", replace("h=", "x=1767614399; h=")},
		{"x= to come, but it was not signed", "ARC-Message-Signature 2: the signature does not match", replace("h=", "x=1767614400; h=")},
		{"c=", "ARC-Message-Signature 2: unknown canonicalization in c=", replace("c=relaxed/relaxed", "c=relaxed/nowsp")},
		{"sha1", "ARC-Seal 2: rsa-sha1 is broken", replace("a=rsa-sha256", "a=rsa-sha1")},
		{"other algorithm", "ARC-Seal 2: the key is for another algorithm", replace("a=rsa-sha256", "a=ed25519-sha256")},
		{"query method", "ARC-Seal 2: unknown query method in q=", replace("cv=pass;", "cv=pass; q=http;")},
		{"d=", "ARC-Seal 2: d= is no domain", replace("d=two.example", "d=two..example")},
		{"s=", "ARC-Seal 2: s= is no selector", replace("s=arc", "s="+strings.Repeat("long.", 50))},
		{"bare LF in the header", "the message has a bare CR or LF", replace("Subject: hello", "Subject:\n hello")},
		{"bare CR in the header", "the message has a bare CR or LF", replace("Subject: hello", "Subject: \rhello")},
		{"bare LF in the body", "the message has a bare CR or LF", replace("Hello  all,\r\n", "Hello  all,\n")},
		{"bare CR in the body", "the message has a bare CR or LF", replace("Hello  all", "Hello\rall")},
		{"CR at the end", "the message has a bare CR or LF", func(s string) string { return s + "\r" }},
		{"200 names", "ARC-Message-Signature 2: more than 200 names in h=", replace("h=", "h="+strings.Repeat("a:", 200))},
		{"1001 fields", errHeader.Error(), replace("", strings.Repeat("A: b\r\n", 1001))},
		{"64 KiB", errHeader.Error(), replace("", "A: "+strings.Repeat("b", maxHeader)+"\r\n")},
		{"cut header", errHeader.Error(), replace("\r\n\r\n", "\r\nA: "+strings.Repeat("b", filters.MaxHeader)+"\r\n\r\n")},
		{"51 tags", "an ARC-Seal has a malformed list of tags", replace("cv=pass;", "cv=pass; "+manyTags(50))},
	} {
		t.Run(test.name, func(t *testing.T) {
			if c := validateText(t, zone, test.change(good)); c.reason != test.reason {
				t.Errorf("got %q, want %q", c.reason, test.reason)
			}
		})
	}
}

func manyTags(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("x" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + "=1; ")
	}
	return b.String()
}

func TestComments(t *testing.T) {
	for text, want := range map[string]string{
		" i=1; x": "1| x", "i=12;": "12|", "\r\n\ti = 3 ;x": "3|x", "(a(b)\\)c) i(x)=(y)4(z); q": "4| q", " i=; x": "| x",
		"": "!", "i": "!", "i=1": "!", "j=1;": "!", "i=1 x;": "!", "(i=1;": "!", "i:1;": "!", "I=1;": "!",
	} {
		got := "!"
		if instance, rest, ok := cutInstance(text); ok {
			got = instance + "|" + rest
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestTimesInSignatures(t *testing.T) {
	zone := filtertest.NewZone()
	for extra, want := range map[string]Result{
		" x=1767614400;": Pass, " x=1767614399;": Fail, " x=-1;": Fail, " x=;": Fail, " x=9999999999999;": Fail,
		" t=1;": Pass, " t=99999999999;": Pass, " t=1.5;": Fail, " t=;": Fail, " q=dns/txt;": Pass, " q=x : dns/txt;": Pass,
	} {
		s := newSigner(zone, "one.example")
		s.extraMessage = extra
		if c := validateText(t, zone, s.seal(letter)); c.result != want {
			t.Errorf("%s: %s (%s)", extra, c.result, c.reason)
		}
	}
}

func TestKeys(t *testing.T) {
	small, large := newRSAKey(1024), newRSAKey(1024)
	s := newSigner(filtertest.NewZone(), "one.example")
	s.key = small
	record := s.record()
	s.key = large
	other := s.record()
	s.key = small
	sealed := s.seal(letter)
	p := record[strings.Index(record, "p="):]
	const label = "ARC-Message-Signature 1: "
	for _, test := range []struct {
		name, reason string
		result       Result
		records      []string
	}{
		{"sound", "", Pass, []string{record}},
		{"least", "", Pass, []string{p}},
		{"all tags", "", Pass, []string{"v=DKIM1; h=sha1:sha256; k=rsa; n=notes; s=email; t=y:s; " + p + ";"}},
		{"folded", "", Pass, []string{p[:50] + " " + p[50:]}},
		{"foreign records beside it", "", Pass, []string{"v=spf1 -all", record, "hello"}},
		{"not that key", label + "the signature does not match", Fail, []string{other}},
		{"two keys", label + "there are several keys", Fail, []string{record, other}},
		{"no such record", label + "there is no key", Fail, []string{}},
		{"revoked", label + "the key is revoked", Fail, []string{"v=DKIM1; p="}},
		{"version", label + "unknown version of the key record", Fail, []string{"v=DKIM2; " + p}},
		{"version not first", label + "unknown version of the key record", Fail, []string{p + "; v=DKIM1"}},
		{"hash", label + "the key is for another hash", Fail, []string{"h=sha1; " + p}},
		{"service", label + "the key is not for mail", Fail, []string{"s=tlsrpt; " + p}},
		{"kind", label + "malformed key record", Fail, []string{"k=ed25519; " + p}},
		{"unknown kind", label + "unknown kind of key", Fail, []string{"k=dsa; " + p}},
		{"not base64", label + "malformed key record", Fail, []string{"p=yo-mama"}},
		{"not a key", label + "malformed key record", Fail, []string{"p=aGVsbG8="}},
		{"no key", label + "malformed key record", Fail, []string{"v=DKIM1; k=rsa"}},
		{"too long", label + "malformed key record", Fail, []string{record + "; n=" + strings.Repeat("x", maxKeyRecord)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			zone := filtertest.NewZone()
			zone.Add("arc._domainkey.one.example", "SOA", "")
			for _, r := range test.records {
				zone.Add("arc._domainkey.one.example", "TXT", r)
			}
			if c := validateText(t, zone, sealed); c.result != test.result || c.reason != test.reason {
				t.Errorf("got %s (%s), want %s (%s)", c.result, c.reason, test.result, test.reason)
			}
		})
	}
	zone := filtertest.NewZone()
	if c := validateText(t, zone, sealed); c.result != Fail || c.reason != label+"there is no key" {
		t.Errorf("no such name: %s (%s)", c.result, c.reason)
	}
}

func TestKeySizes(t *testing.T) {
	zone := filtertest.MustParseZone("512._domainkey.one.example TXT p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAIWmlgix/84GJ+dfgjm7LTc9EPdfkftlgiPpCq4/kbDAZmU0VvYKDljjleJ1dfvS+CGy9U/kk1tG3EeEvb82xAcCAwEAAQ==")
	s := newSigner(zone, "one.example")
	s.selector = "512"
	if c := validateText(t, zone, s.seal(letter)); c.result != Fail || !strings.HasSuffix(c.reason, "the RSA key has 512 bits") {
		t.Errorf("512: %s (%s)", c.result, c.reason)
	}
	for _, test := range []struct {
		bits     uint
		exponent int
		sound    bool
	}{{1023, 3, false}, {1024, 3, true}, {4096, 65537, true}, {4096, 65539, false}, {4097, 65537, false}} {
		n := new(big.Int).Lsh(big.NewInt(1), test.bits-1)
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: test.exponent})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := parseKey("p=" + base64.StdEncoding.EncodeToString(der)); (err == nil) != test.sound {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

func TestKeysAreAskedForOnce(t *testing.T) {
	zone := filtertest.NewZone()
	text := letter
	for range 4 {
		text = newSigner(zone, "one.example").seal(text)
	}
	text = newSigner(zone, "two.example").seal(text)
	if c := validateText(t, zone, text); c.result != Pass || zone.Queries() != 2 {
		t.Errorf("%s (%s) with %d queries", c.result, c.reason, zone.Queries())
	}
}

func TestDNSFailures(t *testing.T) {
	for _, test := range []struct {
		name, one, two string // faults of the keys of the older and the newer sealer
		change         string // to the message
		trusted        []string
		result         string
		absent         bool
	}{
		{"older sealer", filtertest.ServFail, "", "hello", []string{"two.example"}, "temperror", true},
		{"newer sealer", "", filtertest.Timeout, "hello", []string{"two.example"}, "temperror", true},
		{"both", filtertest.Timeout, filtertest.Timeout, "hello", []string{"one.example", "two.example"}, "temperror", true},
		{"a stranger", "", filtertest.Timeout, "hello", []string{"one.example"}, "temperror", false},
		{"older sealer, and forged", filtertest.Timeout, "", "bye", []string{"two.example"}, "fail", false},
		{"newer sealer has no key", filtertest.Timeout, "SOA", "hello", []string{"two.example"}, "fail", false},
		{"older sealer has no key", "SOA", filtertest.Timeout, "hello", []string{"two.example"}, "fail", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			zone := filtertest.NewZone()
			text := newSigner(zone, "two.example").seal(newSigner(zone, "one.example").seal(letter))
			for domain, fault := range map[string]string{"one.example": test.one, "two.example": test.two} {
				if fault != "" {
					zone.Remove("arc._domainkey." + domain)
					zone.Add("arc._domainkey."+domain, fault, "")
				}
			}
			facts := look(t, zone, test.trusted, strings.Replace(text, "hello", test.change, 1))
			if facts.Result != test.result || (facts.Trusted == nil) != test.absent || (facts.RecordedDMARC == nil) != test.absent {
				t.Errorf("got %+v", facts)
			}
			if facts.Trusted != nil && *facts.Trusted {
				t.Error("trusted")
			}
			if got := facts.AuthResults(nil)[0].Result; got != "fail" {
				t.Errorf("Authentication-Results say %s", got)
			}
		})
	}
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone := filtertest.NewZone()
		text := newSigner(zone, "one.example").seal(letter)
		zone.Remove("arc._domainkey.one.example")
		zone.Add("arc._domainkey.one.example", filtertest.Silent, "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		// The key does not come.
		m := newMessage(text)
		if c, err := validate(ctx, zone, filtertest.Start, m); err != nil || c.result != TempError {
			t.Errorf("%s (%s), %v", c.result, c.reason, err)
		}
		// The body does not come.
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m = filters.NewMessage(1<<20, nil)
		m.Write([]byte(text))
		if _, err := validate(ctx, zone, filtertest.Start, m); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		// The message is abandoned.
		gone := errors.New("the client is gone")
		m.Abort(gone)
		if _, err := validate(t.Context(), zone, filtertest.Start, m); !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		// A changed body needs no key.
		m = newMessage(text + "more")
		began := time.Now()
		if c, err := validate(t.Context(), zone, filtertest.Start, m); err != nil || c.result != Fail || time.Since(began) != 0 {
			t.Errorf("%s (%s), %v after %s", c.result, c.reason, err, time.Since(began))
		}
	})
}

func TestFacts(t *testing.T) {
	zone := filtertest.NewZone()
	facts := look(t, zone, nil, newSigner(zone, "two.example").seal(newSigner(zone, "ONE.example").seal(letter)))
	if facts.Result != "pass" || facts.Instances != 2 || !slices.Equal(facts.Sealers, []string{"one.example", "two.example"}) || *facts.Trusted {
		t.Errorf("got %+v", facts)
	}
	got := facts.AuthResults(nil)
	if len(got) != 1 || got[0].Method != "arc" || got[0].Result != "pass" || len(got[0].Properties) != 1 ||
		got[0].Properties[0] != (filters.AuthProperty{Type: "smtp", Name: "remote-ip", Value: "192.0.2.1"}) {
		t.Errorf("got %+v", got)
	}
	if got := look(t, zone, nil, letter).AuthResults(nil); got[0].Result != "none" || got[0].Properties != nil {
		t.Errorf("got %+v", got)
	}
	if netip.MustParseAddr("192.0.2.1") != facts.client {
		t.Errorf("client %s", facts.client)
	}
}

func TestConfig(t *testing.T) {
	sound := Config{TrustedSealers: []string{"lists.example.org", "LISTS.example.net", "bücher.example"}}
	if err := sound.Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", ".example.org", "example.org.", "*.example.org", "a@example.org", "a b", strings.Repeat("a.", 200)} {
		c := Config{TrustedSealers: []string{"example.org", bad}}
		var errs filters.KeyErrors
		if err := c.Validate(); !errors.As(err, &errs) || len(errs) != 1 || errs[0].Key != "trusted_sealers[1]" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	many := Config{TrustedSealers: slices.Repeat([]string{"example.org"}, maxTrusted+1)}
	if many.Validate() == nil {
		t.Error("any number is allowed")
	}
}
