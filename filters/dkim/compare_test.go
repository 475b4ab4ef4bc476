package dkim

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	library "github.com/emersion/go-msgauth/dkim"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// librarySays is what go-msgauth makes of a message.
func librarySays(t interface{ Fatal(...any) }, zone *filtertest.Zone, text string) (passes []bool) {
	verifications, err := library.VerifyWithOptions(strings.NewReader(text), &library.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		records, _ := zone.Find(name)
		var texts []string
		for _, r := range records {
			texts = append(texts, r.Value)
		}
		return texts, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verifications {
		passes = append(passes, v.Err == nil)
	}
	return passes
}

func libraryZone() *filtertest.Zone {
	return zoneOf("ed._domainkey.example.org", edText, "rsa._domainkey.example.org", rsaText(&rsaKey().PublicKey))
}

// librarySigned is text with a signature on top.
func librarySigned(t interface{ Fatal(...any) }, text, selector, header, body string, keys []string) string {
	options := &library.SignOptions{
		Domain: "example.org", Selector: selector, Signer: edKey, HeaderKeys: keys,
		HeaderCanonicalization: library.Canonicalization(header), BodyCanonicalization: library.Canonicalization(body),
	}
	if selector == "rsa" {
		options.Signer = rsaKey()
	}
	var out bytes.Buffer
	if err := library.Sign(&out, strings.NewReader(text), options); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var (
	values = rapid.StringMatching(`[ -~]{0,8}([ \t]{0,3}(\r\n[ \t]{1,2})?[!-~]{1,6}){0,3}[ \t]{0,2}`)
	bodies = rapid.StringMatching(`(([!-~]{0,3}[ \t]{0,2}){0,4}\r\n){0,8}([!-~]{1,5})?`)
)

// What the library signs passes, and what is changed afterwards passes here if and only if it passes there.
func TestAgreesWithGoMsgauth(t *testing.T) {
	zone := libraryZone()
	f, err := New(Config{}, filtertest.NewEnv(zone))
	if err != nil {
		t.Fatal(err)
	}
	f.env.Clock = filters.SystemClock{} // the library's
	ours := func(t *rapid.T, text string) (passes []bool) {
		m := newMessage(text)
		defer m.Release()
		facts, err := f.Message(t.Context(), filters.View{Message: m})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range facts.Results {
			passes = append(passes, r == "pass")
		}
		return passes
	}
	changed := 0
	rapid.Check(t, func(t *rapid.T) {
		var header strings.Builder
		names := []string{"From"}
		for range rapid.IntRange(0, 4).Draw(t, "fields") {
			name := rapid.SampledFrom([]string{"To", "to", "X-y", "Subject"}).Draw(t, "name")
			names = append(names, rapid.SampledFrom([]string{name, "Nothing", "subject"}).Draw(t, "signed"))
			fmt.Fprintf(&header, "%s:%s\r\n", name, values.Draw(t, "value"))
		}
		text := header.String() + fromField + "\r\n" + bodies.Draw(t, "body")
		count := rapid.IntRange(1, 3).Draw(t, "signatures")
		for range count {
			text = librarySigned(t, text, rapid.SampledFrom([]string{"ed", "rsa"}).Draw(t, "key"),
				rapid.SampledFrom([]string{"simple", "relaxed"}).Draw(t, "header"),
				rapid.SampledFrom([]string{"simple", "relaxed"}).Draw(t, "body"), names)
		}
		got := ours(t, text)
		if len(got) != count || fmt.Sprint(got) != fmt.Sprint(librarySays(t, zone, text)) || !got[0] {
			t.Fatalf("signed: %v\n%q", got, text)
		}
		start := strings.LastIndex(text, "\r\nDKIM-Signature") + 2
		start += strings.Index(text[start:], "\r\n") + 2
		at := rapid.IntRange(start, len(text)-1).Draw(t, "at")
		if text[at] == '\r' || text[at] == '\n' {
			return
		}
		text = text[:at] + rapid.SampledFrom([]string{"", " ", "\t", "  ", "X", "\r\n\t", "\r\n", ":"}).Draw(t, "change") + text[at+1:]
		changed++
		if got, want := ours(t, text), librarySays(t, zone, text); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("changed at %d: %v, the library says %v\n%q", at, got, want, text)
		}
	})
	if changed == 0 {
		t.Error("nothing was changed")
	}
}

var (
	trailing = regexp.MustCompile(`[ \t]+\r\n`)
	blanks   = regexp.MustCompile(`[ \t]+`)
)

// reference is RFC 6376, 3.4.3 and 3.4.4, by the letter.
func reference(body string, relaxed bool) string {
	if body != "" && !strings.HasSuffix(body, "\r\n") {
		body += "\r\n"
	}
	if relaxed {
		body = blanks.ReplaceAllString(trailing.ReplaceAllString(body, "\r\n"), " ")
	}
	for strings.HasSuffix(body, "\r\n\r\n") {
		body = strings.TrimSuffix(body, "\r\n")
	}
	if body == "\r\n" && relaxed {
		body = ""
	}
	if body == "" && !relaxed {
		body = "\r\n"
	}
	return body
}

func TestBodyInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.StringMatching(`(([a-c]{0,3}[ \t]{0,2}){0,3}\r\n){0,9}[a-c]{0,3}`).Draw(t, "body")
		if rapid.Bool().Draw(t, "long") {
			body = strings.Replace(body, "\r\n", strings.Repeat("\r\n", 3000)+strings.Repeat("ab ", 700), 1)
		}
		r := bodyReader{skip: 5, simple: newBodyHash(), relaxed: newBodyHash()}
		for rest := "X:\r\n\n" + body; rest != ""; {
			n := min(rapid.IntRange(1, 1+len(body)/3).Draw(t, "n"), len(rest))
			if _, err := r.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if want := sha256.Sum256([]byte(reference(body, false))); !bytes.Equal(r.simple.sumSimple(), want[:]) {
			t.Errorf("simple: %q", body)
		}
		if want := sha256.Sum256([]byte(reference(body, true))); !bytes.Equal(r.relaxed.sumRelaxed(), want[:]) {
			t.Errorf("relaxed: %q", body)
		}
	})
}

func TestLineEndsInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a", "\r\n", "\r\n", "\r", "\n"})).Draw(t, "text"), "")
		var l lineEnds
		ok := true
		for rest := text; rest != "" && ok; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			ok = l.crlfOnly([]byte(rest[:n]))
			rest = rest[n:]
		}
		bare := strings.ReplaceAll(text, "\r\n", "")
		if want := !strings.ContainsAny(bare, "\r\n"); (ok && !l.open) != want {
			t.Errorf("%q: %v, want %v", text, ok, want)
		}
	})
}

// One of the reasons why the verification is our own: the library refuses a valid signature.
func TestTheLibraryFailsOnTagsThatHoldB(t *testing.T) {
	text := signed(strings.Replace(plainTags, "v=1;", "v=1; z=Subject:b=20=lob=x;", 1))
	if librarySays(t, plainZone(), text)[0] {
		t.Error("the library has learnt it: compare these too")
	}
	if f := observe(t, plainZone(), text); f.Result != "pass" {
		t.Errorf("%s, %s", f.Result, f.Reason)
	}
}

func FuzzMessage(f *testing.F) {
	zone := libraryZone()
	zone.Add("sel._domainkey.example.org", "TXT", edText)
	zone.Add("two._domainkey.example.org", "TXT", "v=DKIM1; t=y:s; k=ed25519; h=sha256:*; s=email; p=AAAA")
	zone.Add("two._domainkey.example.org", "TXT", edText)
	f.Add([]byte(signed(plainTags)))
	f.Add([]byte(signed(strings.Replace(plainTags, "v=1;", "v=1; c=relaxed; l=3; x=1; t=0; z=b=; q=dns/txt;", 1))))
	f.Add([]byte(signed(strings.Replace(plainTags, "s=sel", "s=two; i=a@b.example.org", 1)) + "\r\n\r\n \t x\r\n"))
	f.Add([]byte(librarySigned(f, fromField+"\r\n"+plainBody, "rsa", "relaxed", "relaxed", []string{"From", "To"})))
	f.Add([]byte("dkim-signature:\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		facts := observe(t, zone, string(text))
		n := min(facts.Signatures, maxSignatures)
		if facts.Result != "none" && len(facts.Results) == 0 {
			n = 0 // refused as a whole
		}
		for _, list := range [][]string{facts.Results, facts.Signers, facts.Selectors, facts.Algorithms, facts.KeyBits} {
			if len(list) != n {
				t.Fatalf("%d entries for %d signatures: %+v", len(list), n, facts)
			}
		}
		flawed := facts.Result != "none" && (n == 0 || slices.ContainsFunc(facts.Results, func(r string) bool { return r != "pass" }))
		if (facts.Result == "pass") != (len(facts.Domains) > 0) || (facts.Reason != "") != flawed {
			t.Fatalf("%+v", facts)
		}
		for _, result := range facts.AuthResults() {
			if result.Result == "" || len(result.Reason) > 100 {
				t.Fatalf("%+v", result)
			}
		}
	})
}

func FuzzKeyRecord(f *testing.F) {
	f.Add(edText)
	f.Add(rsaText(fakeKey(2048)) + "; t=y:s; h=sha256; s=*")
	f.Add("p=;k==;;v=DKIM1")
	f.Fuzz(func(t *testing.T, record string) {
		for _, kind := range []string{"rsa", "ed25519"} {
			s := &signature{keyType: kind, domain: "example.org"}
			k, failed := readKey(record, s)
			if failed.result == "" && (k.public == nil || k.bits < 256 || k.bits > maxBits) {
				t.Errorf("%q: %+v", record, k)
			}
			if failed.result == "" && k.verifies(make([]byte, 32), make([]byte, 64)) {
				t.Errorf("%q verifies nothing", record)
			}
		}
	})
}

func FuzzSignature(f *testing.F) {
	f.Add(signSimple(edKey, plainTags, fromField, plainBody))
	f.Add("DKIM-Signature: v=1; b = a b\r\n c ; bh=; =; l=")
	f.Fuzz(func(t *testing.T, raw string) {
		s := readSignature(&filters.Field{Name: fieldName, Raw: []byte("DKIM-Signature:" + raw)}, time.Unix(1e9, 0))
		if s.valueStart > s.valueEnd || s.valueEnd > len(s.field.Raw) || len(s.prefix) > 8 || len(s.signed) > maxSigned {
			t.Errorf("%+v", s)
		}
		if s.result == "" && (s.domain == "" || s.selector == "" || !isName(s.keyName())) {
			t.Errorf("%+v", s)
		}
	})
}
