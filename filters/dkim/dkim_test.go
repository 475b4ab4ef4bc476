package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/authres"
	"gatepost/filters/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The keys of all tests.
var (
	edKey  = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	edText = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edKey.Public().(ed25519.PublicKey))
	rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return key
	})
)

func rsaText(key *rsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
}

// fakeKey is a public key of that size whose private half nobody has.
func fakeKey(bits uint) *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}
}

// signSimple signs by hand, with simple canonicalization, without the code under test: the field is given with "b=%s",
// and signed are the raw fields that h= means, in its order.
func signSimple(key crypto.Signer, signature, signed, body string) string {
	bodyHash := sha256.Sum256([]byte(body))
	signature = strings.Replace(signature, "bh=%s", "bh="+base64.StdEncoding.EncodeToString(bodyHash[:]), 1)
	hash := sha256.Sum256([]byte(signed + strings.Replace(signature, "b=%s", "b=", 1)))
	options := crypto.SignerOpts(crypto.Hash(0))
	if _, isRSA := key.(*rsa.PrivateKey); isRSA {
		options = crypto.SHA256
	}
	value, err := key.Sign(rand.Reader, hash[:], options)
	if err != nil {
		panic(err)
	}
	return strings.Replace(signature, "b=%s", "b="+base64.StdEncoding.EncodeToString(value), 1) + "\r\n"
}

const (
	fromField = "From: Joe <joe@example.org>\r\n"
	plainBody = "Hello\r\n"
	plainTags = "DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=sel; h=from; bh=%s; b=%s"
)

// signed is a small message with one signature.
func signed(tags string) string {
	return signSimple(edKey, tags, fromField, plainBody) + fromField + "\r\n" + plainBody
}

// plainZone has the key of signed.
func plainZone() *filtertest.Zone { return zoneOf("sel._domainkey.example.org", edText) }

// zoneOf makes a zone of pairs of name and text.
func zoneOf(pairs ...string) *filtertest.Zone {
	zone := filtertest.NewZone()
	for i := 0; i < len(pairs); i += 2 {
		if err := zone.Add(pairs[i], "TXT", pairs[i+1]); err != nil {
			panic(err)
		}
	}
	return zone
}

func newMessage(text string) *filters.Message {
	m := filters.NewMessage(64<<20, nil)
	if _, err := m.Write([]byte(text)); err != nil {
		panic(err)
	}
	m.Complete()
	return m
}

func observe(t testing.TB, resolver filters.Resolver, text string) *Facts {
	t.Helper()
	return observeWith(t, Defaults(), resolver, text)
}

func observeWith(t testing.TB, config Config, resolver filters.Resolver, text string) *Facts {
	t.Helper()
	f, err := New(config, filtertest.NewEnv(resolver))
	if err != nil {
		t.Fatal(err)
	}
	m := newMessage(text)
	defer m.Release()
	facts, err := f.Message(t.Context(), filters.View{Message: m})
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

func TestResults(t *testing.T) {
	zone := plainZone()
	add := func(name, text string) { zone.Add(name+"._domainkey.example.org", "TXT", text) }
	add("s", edText+"; t=s")
	add("revoked", "v=DKIM1; k=ed25519; p=")
	add("dkim2", strings.Replace(edText, "DKIM1", "DKIM2", 1))
	add("late", "k=ed25519; v=DKIM1; "+strings.TrimPrefix(edText, "v=DKIM1; k=ed25519; "))
	add("web", edText+"; s=web")
	add("any", edText+"; s=web:*; h=sha1:sha256; n=note; x-unknown=1")
	add("sha1", edText+"; h=sha1")
	add("rsa", rsaText(fakeKey(2048)))
	add("weak", rsaText(fakeKey(1023)))
	add("huge", rsaText(fakeKey(4097)))
	add("short", "v=DKIM1; k=ed25519; p=AAAA")
	add("junk", "v=DKIM1; k=ed25519; p=*")
	add("twice", edText+"; p=AAAA")
	add("nokey", "v=DKIM1; k=ed25519")
	add("spf", "v=spf1 -all")
	add("two", "v=spf1 -all")
	add("two", rsaText(fakeKey(2048)))
	add("two", edText)
	add("five", "1")
	for range 4 {
		add("five", edText)
	}
	zone.Add("empty._domainkey.example.org", "A", "192.0.2.1")
	zone.Add("slow._domainkey.example.org", "TIMEOUT", "")
	zone.Add("broken._domainkey.example.org", "SERVFAIL", "")
	zone.Add("sel._domainkey.xn--bcher-kva.example", "TXT", edText)
	with := func(old, new string) string { return strings.Replace(plainTags, old, new, 1) }
	for _, test := range []struct {
		name, tags string
		result     Result
		reason     string
	}{
		{"plain", plainTags, Pass, ""},
		{"case of the field and of a=", with("DKIM-Signature: v=1; a=ed25519-sha256", "dkim-SIGNATURE : v=1; a=Ed25519-SHA256"), Pass, ""},
		{"no space, a last semicolon", with("; b=%s", ";b=%s;"), Pass, ""},
		{"unknown tags", with("v=1;", "v=1; xy=; z_1=b=c;"), Pass, ""},
		{"z= with b= in it", with("v=1;", "v=1; z=From:joe|Subject:b=20=lob=x;"), Pass, ""},
		{"a tag that ends in b", with("v=1;", "v=1; xb=123;"), Pass, ""},
		{"b= in i=", with("v=1;", "v=1; i=b=1@example.org;"), Pass, ""},
		{"case of d= and i=", with("d=example.org;", "d=Example.ORG; i=Joe@Sub.eXample.org;"), Pass, ""},
		{"U-labels", with("d=example.org;", "d=Bücher.example; i=@bücher.example;"), Pass, ""},
		{"folding", with("h=from;", "h=\r\n\t from\r\n ; c=simple /\r\n simple;"), Pass, ""},
		{"q= with others", with("v=1;", "v=1; q=dns/special : DNS/txt;"), Pass, ""},
		{"t= and x=", with("v=1;", "v=1; t=1767000000; x=1767614401;"), Pass, ""},
		{"t= a little ahead", with("v=1;", "v=1; t=1767690000;"), Pass, ""},
		{"t=s without i=", with("s=sel", "s=s"), Pass, ""},
		{"t=s and the same domain", with("s=sel;", "s=s; i=@EXAMPLE.org;"), Pass, ""},
		{"service *", with("s=sel", "s=any"), Pass, ""},
		{"one of several records", with("s=sel", "s=two"), Pass, ""},

		{"l=", with("v=1;", "v=1; l=7;"), Policy, "l= leaves the end of the body unsigned"},
		{"rsa-sha1", with("ed25519-sha256", "rsa-sha1"), Policy, "rsa-sha1 is broken"},
		{"expired", with("v=1;", "v=1; x=1767614399;"), Policy, "expired"},
		{"from the future", with("v=1;", "v=1; t=1767800000;"), Policy, "signed in the future"},
		{"weak key", strings.Replace(with("s=sel", "s=weak"), "ed25519", "rsa", 1), Policy, "RSA key of 1023 bits"},
		{"huge key", strings.Replace(with("s=sel", "s=huge"), "ed25519", "rsa", 1), Policy, "RSA key of 4097 bits"},
		{"many names", with("h=from", "h=from"+strings.Repeat(":x", 200)), Policy, "more than 200 names in h="},

		{"not this key", strings.Replace(with("s=sel", "s=rsa"), "ed25519", "rsa", 1), Fail, "the signature does not match"},
		{"relaxed", with("v=1;", "v=1; c=relaxed;"), Fail, "the signature does not match"},
		{"other body", with("bh=%s", "bh=AAAA"), Fail, "the body was changed"},

		{"no tags", "DKIM-Signature: hello; b=%s", Neutral, "malformed list of tags"},
		{"tag twice", with("v=1;", "v=1; d=example.org;"), Neutral, "malformed list of tags"},
		{"bad tag name", with("v=1;", "v=1; =2;"), Neutral, "malformed list of tags"},
		{"white space in a tag name", with("v=1;", "v=1; a b=2;"), Neutral, "malformed list of tags"},
		{"many tags", with("v=1;", "v=1"+manyTags(50)), Neutral, "malformed list of tags"},
		{"v=2", with("v=1", "v=2"), Neutral, "v= is not 1"},
		{"no v=", with("v=1;", ""), Neutral, "v= is not 1"},
		{"no d=", with("d=example.org;", ""), Neutral, "d= is no domain"},
		{"bad d=", with("d=example.org;", "d=example..org;"), Neutral, "d= is no domain"},
		{"d= with a slash", with("d=example.org;", "d=example.org/x;"), Neutral, "d= is no domain"},
		{"no s=", with("s=sel;", ""), Neutral, "s= is no selector"},
		{"long s=", with("s=sel;", "s="+strings.Repeat("a.", 115)+"a;"), Neutral, "s= is no selector"},
		{"a=", with("ed25519-sha256", "dsa-sha256"), Neutral, "unknown algorithm in a="},
		{"q=", with("v=1;", "v=1; q=http;"), Neutral, "unknown query method in q="},
		{"c=", with("v=1;", "v=1; c=future;"), Neutral, "unknown canonicalization in c="},
		{"c= of the body", with("v=1;", "v=1; c=simple/;"), Neutral, "unknown canonicalization in c="},
		{"no bh=", with("bh=%s;", ""), Neutral, "bh= holds no hash"},
		{"no h=", with("h=from;", ""), Neutral, "h= does not hold From"},
		{"h= without From", with("h=from;", "h=fromage;"), Neutral, "h= does not hold From"},
		{"i= elsewhere", with("v=1;", "v=1; i=@badexample.org;"), Neutral, "i= is not within d="},
		{"i= without @", with("v=1;", "v=1; i=sub.example.org;"), Neutral, "i= is not within d="},
		{"t=", with("v=1;", "v=1; t=soon;"), Neutral, "t= is no time"},
		{"x=", with("v=1;", "v=1; x=-1;"), Neutral, "x= is no time"},
		{"x= before t=", with("v=1;", "v=1; t=1767610000; x=1767610000;"), Neutral, "x= is not after t="},

		{"t=s and a subdomain", with("s=sel;", "s=s; i=@sub.example.org;"), PermError, "the key (t=s) does not allow another domain in i="},
		{"no key", with("s=sel", "s=nothing"), PermError, "no key"},
		{"no text", with("s=sel", "s=empty"), PermError, "no key"},
		{"revoked", with("s=sel", "s=revoked"), PermError, "the key is revoked"},
		{"key version", with("s=sel", "s=dkim2"), PermError, "unknown version of the key record"},
		{"key version not first", with("s=sel", "s=late"), PermError, "unknown version of the key record"},
		{"key for the web", with("s=sel", "s=web"), PermError, "the key is not for mail"},
		{"key for SHA-1", with("s=sel", "s=sha1"), PermError, "the key is for another hash"},
		{"key of another kind", with("s=sel", "s=rsa"), PermError, "the key is for another algorithm"},
		{"short key", with("s=sel", "s=short"), PermError, "malformed key"},
		{"junk key", with("s=sel", "s=junk"), PermError, "malformed key record"},
		{"two keys in one", with("s=sel", "s=twice"), PermError, "malformed key record"},
		{"no p=", with("s=sel", "s=nokey"), PermError, "malformed key record"},
		{"SPF record", with("s=sel", "s=spf"), PermError, "unknown version of the key record"},
		{"too many records", with("s=sel", "s=five"), PermError, "too many key records"},

		{"time-out", with("s=sel", "s=slow"), TempError, "the key cannot be had now"},
		{"server failure", with("s=sel", "s=broken"), TempError, "the key cannot be had now"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := observe(t, zone, signed(test.tags))
			if f.Result != string(test.result) || f.Reason != test.reason || f.Signatures != 1 || !slices.Equal(f.Results, []string{f.Result}) {
				t.Errorf("%s: %q, %d signatures, each %q", f.Result, f.Reason, f.Signatures, f.Results)
			}
			if (len(f.Domains) == 1) != (test.result == Pass) || (len(f.Undecided) == 1) != (test.result == TempError) {
				t.Errorf("domains %q, undecided %q", f.Domains, f.Undecided)
			}
		})
	}
}

func manyTags(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "; x%d=", i)
	}
	return b.String() + ";"
}

func TestTestKeysCountOnlyIfConfigured(t *testing.T) {
	zone := zoneOf("sel._domainkey.example.org", edText+"; t=y:s")
	good := signed(plainTags)
	bad := strings.Replace(good, "Hello", "Hallo", 1)
	for _, test := range []struct {
		accept bool
		text   string
		want   Result
	}{{false, good, Neutral}, {false, bad, Neutral}, {true, good, Pass}, {true, bad, Fail}} {
		if f := observeWith(t, Config{AcceptTestKeys: test.accept}, zone, test.text); f.Result != string(test.want) || !f.Testing {
			t.Errorf("accepted %v: %s, testing %v; want %s", test.accept, f.Result, f.Testing, test.want)
		}
	}
}

func TestFactsOfSeveralSignatures(t *testing.T) {
	zone := zoneOf("sel._domainkey.example.org", edText, "r._domainkey.example.net", rsaText(&rsaKey().PublicKey))
	zone.Add("slow._domainkey.example.com", "TIMEOUT", "")
	text := signSimple(edKey, strings.Replace(plainTags, "s=sel", "s=gone; i=x@example.org", 1), fromField, plainBody) +
		signSimple(rsaKey(), "DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=r; h=from; bh=%s; b=%s", fromField, plainBody) +
		signSimple(edKey, "DKIM-Signature: v=1; a=ed25519-sha256; d=example.com; s=slow; h=from; bh=%s; b=%s", fromField, plainBody) +
		"DKIM-Signature: v=1; a=rsa-sha256; d=.; b=abcdefghijkl\r\n" +
		signSimple(edKey, strings.Replace(plainTags, "s=sel", "s=sel; x=2; l=3", 1), fromField, plainBody) +
		signSimple(edKey, plainTags, fromField, plainBody) +
		fromField + "\r\n" + plainBody
	f := observe(t, zone, text)
	f.signatures = nil
	want := Facts{
		Result: "pass", Reason: "no key", Domains: []string{"example.net"}, Undecided: []string{"example.com"}, Signatures: 6,
		Results:    []string{"permerror", "pass", "temperror", "neutral", "policy"},
		Signers:    []string{"example.org", "example.net", "example.com", "", "example.org"},
		Selectors:  []string{"gone", "r", "slow", "", "sel"},
		Algorithms: []string{"ed25519-sha256", "rsa-sha256", "ed25519-sha256", "", "ed25519-sha256"},
		KeyBits:    []string{"0", "2048", "0", "0", "0"},
		Reasons:    []string{"no key", "", "the key cannot be had now", "d= is no domain", "expired"},
		Marks:      []string{"", "", "", "", "length expired"},
		LengthUsed: true, Expired: true,
	}
	if fmt.Sprintf("%+v", *f) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", *f, want)
	}
}

func TestAuthenticationResults(t *testing.T) {
	text := "DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=x; i=\"a\r\n b\"@example.net; h=from; bh=AAAA; b=ab c defghijkl\r\n" + signed(plainTags)
	f := observe(t, plainZone(), text)
	field := string(authres.Format("mx.example.org", f.AuthResults(nil)))
	for _, want := range []string{
		`dkim=permerror reason="no key" header.d=example.net`, `header.i="\"ab\"@example.net"`, "header.s=x", "header.b=abcdefgh",
		"dkim=pass header.d=example.org header.s=sel", "header.a=ed25519-sha256",
	} {
		if !strings.Contains(strings.ReplaceAll(field, "\r\n\t", " "), want) {
			t.Errorf("%q is not in %q", want, field)
		}
	}
	field = string(authres.Format("mx.example.org", observe(t, plainZone(), fromField+"\r\n").AuthResults(nil)))
	if field != "Authentication-Results: mx.example.org;\r\n\tdkim=none\r\n" {
		t.Errorf("unsigned: %q", field)
	}
}

func TestPrecedence(t *testing.T) {
	order := []Result{Pass, TempError, Fail, Policy, PermError, Neutral}
	for i, first := range order {
		for _, second := range order[i:] {
			c := check{signatures: []*signature{{verdict: verdict{second, ""}}, {verdict: verdict{first, ""}}}}
			if f := c.facts(); f.Result != string(first) {
				t.Errorf("%s and %s: %s", second, first, f.Result)
			}
		}
	}
}

func TestSignedFieldsAreTakenFromTheBottom(t *testing.T) {
	const first, second = "X: 1\r\n", "x : 2\r\n"
	for _, test := range []struct {
		name, h, signed, header string
		want                    Result
	}{
		{"lowest first", "from:x", fromField + second, first + second + fromField, Pass},
		{"both", "x:from:X", second + fromField + first, first + second + fromField, Pass},
		{"more than there are", "x:x:x:x:from:from", second + first + fromField, first + second + fromField, Pass},
		{"added above", "from:x", fromField + second, "X: 3\r\n" + first + second + fromField, Pass},
		{"added below", "from:x", fromField + second, first + second + "X: 3\r\n" + fromField, Fail},
		{"another From above", "from", fromField, "From: <eve@example.net>\r\n" + fromField, Pass},
		{"another From, oversigned", "from:from", fromField, "From: <eve@example.net>\r\n" + fromField, Fail},
		{"not itself", "from:dkim-signature", fromField, fromField, Pass},
		{"a name that is not there", "from:nothing", fromField, fromField, Pass},
		{"an empty name", "from::", fromField, "junk\r\n" + fromField, Pass},
	} {
		text := signSimple(edKey, strings.Replace(plainTags, "h=from", "h="+test.h, 1), test.signed, plainBody) + test.header + "\r\n" + plainBody
		if f := observe(t, plainZone(), text); f.Result != string(test.want) {
			t.Errorf("%s: %s, %s", test.name, f.Result, f.Reason)
		}
	}
	// The older signature below is what h=dkim-signature means.
	old := signSimple(edKey, plainTags, fromField, plainBody)
	text := signSimple(edKey, strings.Replace(plainTags, "h=from", "h=from:dkim-signature:dkim-signature", 1), fromField+old, plainBody) + old + fromField + "\r\n" + plainBody
	if f := observe(t, plainZone(), text); !slices.Equal(f.Results, []string{"pass", "pass"}) {
		t.Errorf("signed signature: %q", f.Results)
	}
}

func TestMessageWithoutFrom(t *testing.T) {
	if f := observe(t, plainZone(), signSimple(edKey, plainTags, "", plainBody)+"\r\n"+plainBody); f.Result != "permerror" {
		t.Errorf("%s, %s", f.Result, f.Reason)
	}
}

func TestMessageWithoutBody(t *testing.T) {
	header := signSimple(edKey, plainTags, fromField, "\r\n") + fromField
	for _, end := range []string{"", "\r\n", "\r\n\r\n", "\r\n\r\n\r\n"} {
		if f := observe(t, plainZone(), header+end); f.Result != "pass" {
			t.Errorf("header and %q: %s, %s", end, f.Result, f.Reason)
		}
	}
}

func TestBareLineEndsNeverPass(t *testing.T) {
	for _, body := range []string{"a\nb\r\n", "a\rb\r\n", "a\r\n\n", "a\r\r\n", "a\r", "\n", "\r", "a\r\nb\n"} {
		text := signSimple(edKey, plainTags, fromField, body) + fromField + "\r\n" + body
		if f := observe(t, plainZone(), text); f.Result != "permerror" || f.Reason != "the message has a bare CR or LF" || len(f.Domains) > 0 {
			t.Errorf("body %q: %s, %s", body, f.Result, f.Reason)
		}
	}
	for _, field := range []string{"X: a\nb\r\n", "X: a\rb\r\n", "X: a\n b\r\n"} {
		text := signSimple(edKey, plainTags, fromField, plainBody) + field + fromField + "\r\n" + plainBody
		if f := observe(t, plainZone(), text); f.Result != "permerror" || f.Signatures != 1 {
			t.Errorf("field %q: %s, %s", field, f.Result, f.Reason)
		}
	}
}

func TestBounds(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want Result
	}{
		"a long field":         {"X: " + strings.Repeat("x\r\n ", 16<<10) + "x\r\n", Policy},
		"many bytes":           {strings.Repeat("X: "+strings.Repeat("x", 95)+"\r\n", 660), Policy},
		"many fields":          {strings.Repeat("X: 1\r\n", 999), Policy},
		"as many as can be":    {strings.Repeat("X: 1\r\n", 998), Pass},
		"beyond what is read":  {strings.Repeat("X: "+strings.Repeat("x", 95)+"\r\n", 3000), Policy},
		"too many to be split": {strings.Repeat("X:\r\n", 5000), Policy},
	} {
		zone := plainZone()
		f := observe(t, zone, test.text+signed(plainTags))
		if f.Result != string(test.want) {
			t.Errorf("%s: %s, %s", name, f.Result, f.Reason)
		}
		if test.want != Pass && zone.Queries() > 0 {
			t.Errorf("%s: %d look-ups", name, zone.Queries())
		}
	}
	// Without a signature there is nothing to refuse, but for a header whose end is out of sight.
	if f := observe(t, plainZone(), strings.Repeat("X: 1\r\n", 2000)+fromField+"\r\n"); f.Result != "none" {
		t.Errorf("unsigned: %s", f.Result)
	}
	if f := observe(t, plainZone(), strings.Repeat("X:\r\n", 5000)+fromField+"\r\n"); f.Result != "policy" {
		t.Errorf("unsigned as far as can be seen: %s", f.Result)
	}
}

func TestOnlyFiveSignaturesAreLookedAt(t *testing.T) {
	var text strings.Builder
	zone := filtertest.NewZone()
	for i := range 8 {
		text.WriteString(signSimple(edKey, strings.Replace(plainTags, "s=sel", fmt.Sprint("s=s", i), 1), fromField, plainBody))
		zone.Add(fmt.Sprintf("s%d._domainkey.example.org", i), "TXT", edText)
	}
	f := observe(t, zone, text.String()+fromField+"\r\n"+plainBody)
	if f.Signatures != 8 || zone.Queries() != 5 || !slices.Equal(f.Selectors, []string{"s0", "s1", "s2", "s3", "s4"}) {
		t.Errorf("%d signatures, %d look-ups, %q", f.Signatures, zone.Queries(), f.Selectors)
	}
}

func TestOneLookupForOneKey(t *testing.T) {
	zone := plainZone()
	one := signSimple(edKey, plainTags, fromField, plainBody)
	if f := observe(t, zone, one+one+one+fromField+"\r\n"+plainBody); zone.Queries() != 1 || f.Result != "pass" {
		t.Errorf("%d look-ups, %s", zone.Queries(), f.Result)
	}
}

func TestUnsignedMessageIsDoneWithItsHeader(t *testing.T) {
	for name, header := range map[string]string{
		"unsigned":          fromField + "\r\n",
		"no hope of a pass": "DKIM-Signature: v=1; a=rsa-sha1; d=example.org; s=sel; h=from; bh=AAAA; b=AAAA\r\n" + fromField + "\r\n",
	} {
		m := filters.NewMessage(1<<20, nil)
		m.Write([]byte(header + "the body has not")) // arrived
		zone := plainZone()
		f, err := New(Config{}, filtertest.NewEnv(zone))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Message(t.Context(), filters.View{Message: m}); err != nil || zone.Queries() > 0 {
			t.Errorf("%s: %v, %d look-ups", name, err, zone.Queries())
		}
		m.Complete()
		m.Release()
	}
}

// slow answers after a while, if ctx lets it.
type slow struct {
	filters.Resolver
	pause time.Duration
}

func (s slow) LookupTXT(ctx context.Context, name string) ([]string, error) {
	select {
	case <-time.After(s.pause):
		return s.Resolver.LookupTXT(ctx, name)
	case <-ctx.Done():
		return nil, fmt.Errorf("TXT %s: %w", name, ctx.Err())
	}
}

func severalSigners() (header string, zone *filtertest.Zone) {
	zone = filtertest.NewZone()
	for i := range 5 {
		header += signSimple(edKey, strings.Replace(plainTags, "s=sel", fmt.Sprint("s=s", i), 1), fromField, plainBody)
		zone.Add(fmt.Sprintf("s%d._domainkey.example.org", i), "TXT", edText)
	}
	return header + fromField + "\r\n", zone
}

func TestLookupsRunSideBySideWhileTheBodyArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		header, zone := severalSigners()
		f, _ := New(Config{}, filtertest.NewEnv(slow{zone, 3 * time.Second}))
		m := filters.NewMessage(1<<20, nil)
		start := time.Now()
		go func() {
			m.Write([]byte(header))
			time.Sleep(3 * time.Second)
			m.Write([]byte(plainBody))
			m.Complete()
		}()
		facts, err := f.Message(t.Context(), filters.View{Message: m})
		if err != nil || facts.Result != "pass" || len(facts.Results) != 5 {
			t.Errorf("%+v, %v", facts, err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestOneDeadlineForAllKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		header, zone := severalSigners()
		f, _ := New(Config{}, filtertest.NewEnv(slow{zone, time.Hour}))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		facts, err := f.Message(ctx, filters.View{Message: newMessage(header + plainBody)})
		if err != nil || facts.Result != "temperror" || !slices.Equal(facts.Undecided, []string{"example.org"}) {
			t.Errorf("%+v, %v", facts, err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A client that leaves in the middle of the data must leave nothing behind: TestMain counts goroutines.
func TestAbortedMessage(t *testing.T) {
	header, zone := severalSigners()
	gone := errors.New("the client has left")
	f, _ := New(Config{}, filtertest.NewEnv(slow{zone, time.Hour}))
	for range 20 {
		m := filters.NewMessage(1<<20, nil)
		m.Write([]byte(header))
		done := make(chan error)
		go func() {
			_, err := f.Message(context.Background(), filters.View{Message: m})
			done <- err
		}()
		m.Write([]byte("the body"))
		m.Abort(gone)
		if err := <-done; !errors.Is(err, gone) {
			t.Fatalf("err = %v", err)
		}
		m.Release()
	}
}
