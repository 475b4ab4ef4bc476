package dkim

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"gatepost/filters/canonical"
	"gatepost/filters/filtertest"
)

// What go-msgauth takes for a From, and nobody else does, must not be what is verified: the signed one could be turned
// into such a field, and a forged one put in its place.
func TestFieldsThatOnlyTheLibraryReads(t *testing.T) {
	const tags = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed; d=example.org; s=sel; h=from; bh=%s; b=%s"
	const canonical = "from:Joe <joe@example.org>\r\n"
	signature := func(body string) string {
		relaxed := strings.Replace(strings.Replace(tags, "DKIM-Signature: ", "dkim-signature:", 1), "\r\n", "", 1)
		field := signSimple(edKey, relaxed, canonical, body)
		return "DKIM-Signature: " + strings.TrimPrefix(field, "dkim-signature:")
	}(plainBody)
	if f := observe(t, plainZone(), signature+fromField+"\r\n"+plainBody); f.Result != "pass" {
		t.Fatalf("%s, %s", f.Result, f.Reason)
	}
	for _, odd := range []string{"\v", "\u0085", "\u00a0"} {
		hidden := "From" + odd + ": Joe <joe@example.org>\r\n"
		text := signature + "From: Eve <eve@example.org>\r\n" + hidden + "\r\n" + plainBody
		if !librarySays(t, plainZone(), text)[0] {
			t.Errorf("%q: the library has learnt it", odd)
		}
		if f := observe(t, plainZone(), text); f.Result != "fail" {
			t.Errorf("%q: %s, %s", odd, f.Result, f.Reason)
		}
	}
}

func TestSecondKeyOfAName(t *testing.T) {
	other := ed25519.NewKeyFromSeed([]byte(strings.Repeat("x", ed25519.SeedSize))).Public().(ed25519.PublicKey)
	zone := zoneOf("sel._domainkey.example.org", "v=DKIM1; k=ed25519; p="+base64.StdEncoding.EncodeToString(other), "sel._domainkey.example.org", edText)
	m, f := newFileMessage(t, signed(plainTags))
	c := check{resolver: zone, now: filtertest.NewEnv(zone).Clock.Now()}
	if err := c.run(t.Context(), m); err != nil || c.signatures[0].result != Pass || c.second.asked != 0 {
		t.Errorf("%v, %+v, go-msgauth was asked %d times", err, c.signatures[0].verdict, c.second.asked)
	}
	if int64(f.read) > 2*m.Size() {
		t.Errorf("%d bytes read of %d", f.read, m.Size())
	}
	m.Release()
}

// A long list of recipients is no attack, and verified, but not by go-msgauth.
func TestLongFoldedField(t *testing.T) {
	to := "To: " + strings.Repeat("Somebody <somebody@example.net>,\r\n\t", 600) + "joe@example.org\r\n"
	tags := strings.Replace(plainTags, "h=from", "h=from:to", 1)
	text := signSimple(edKey, tags, fromField+to, plainBody) + to + fromField + "\r\n" + plainBody
	for _, test := range []struct {
		text   string
		want   string
		reason string
	}{
		{text, "pass", ""},
		{strings.Replace(text, "To: Somebody", "To: Someone", 1), "fail", "the signature does not match"},
		{strings.Replace(text, "Hello", "Hallo", 1), "fail", "the body was changed"},
	} {
		if f := observe(t, plainZone(), test.text); f.Result != test.want || f.Reason != test.reason {
			t.Errorf("%s, %s, want %s", f.Result, f.Reason, test.want)
		}
	}
}

// Go-msgauth is not shown more blank lines in a row than it can bear: what fails then fails by our own word.
func TestRunsOfBlankLines(t *testing.T) {
	for n, asked := range map[int]int{maxBlank: 1, maxBlank + 1: 1, 100 * maxBlank: 1} {
		body := "a\r\n" + strings.Repeat("\r\n", n) + "b\r\n"
		text := signSimple(edKey, plainTags, fromField, body) + fromField + "\r\n" + body
		if f := observe(t, plainZone(), text); f.Result != "pass" {
			t.Errorf("%d lines: %s, %s", n, f.Result, f.Reason)
		}
		m := newMessage(strings.Replace(text, "\r\nb", "\r\nc", 1))
		c := check{resolver: plainZone(), now: filtertest.Start}
		if err := c.run(t.Context(), m); err != nil || c.signatures[0].result != Fail || c.second.asked != asked {
			t.Errorf("%d lines and another end: %v, %+v", n, err, c.signatures[0].verdict)
		}
		m.Release()
	}
}

func TestUnusualExponent(t *testing.T) {
	key := fakeKey(2048)
	key.E = 65539
	text := signed(strings.Replace(plainTags, "ed25519", "rsa", 1))
	if f := observe(t, zoneOf("sel._domainkey.example.org", rsaText(key)), text); f.Result != "policy" || f.Reason != "RSA key with an exponent above 65537" {
		t.Errorf("%s, %s", f.Result, f.Reason)
	}
}

// The deadline may come while go-msgauth reads a long message, and a file may become unreadable.
func TestVerificationThatIsInterrupted(t *testing.T) {
	body := strings.Repeat("a line of text\r\n", 100<<10)
	text := signSimple(edKey, plainTags, fromField, "another") + fromField + "\r\n" + body
	m, f := newFileMessage(t, text)
	defer m.Release()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	f.atRead = func() {
		if f.read > len(text)*3/2 {
			cancel()
		}
	}
	c := check{resolver: plainZone(), now: filtertest.NewEnv(plainZone()).Clock.Now()}
	if err := c.run(ctx, m); err != nil || fmt.Sprint(c.facts().Results) != "[temperror]" {
		t.Errorf("deadline: %q, %v", c.facts().Results, err)
	}
	broken := errors.New("the disk is gone")
	f.read, f.atRead = 0, nil
	f.fail = func() error {
		if f.read > len(text)*3/2 {
			return broken
		}
		return nil
	}
	if err := c.run(t.Context(), m); !errors.Is(err, broken) {
		t.Errorf("broken file: %v", err)
	}
}

// A mistake of ours must not refuse a good message, and somebody must hear of it. Here the mistake is another body.
func TestGoMsgauthIsAskedBeforeAnythingFails(t *testing.T) {
	var log bytes.Buffer
	env := filtertest.NewEnv(plainZone())
	env.Log = slog.New(slog.NewTextHandler(&log, nil))
	f, _ := New(Config{}, env)
	for name, test := range map[string]struct {
		text string
		want Result
	}{"good": {signed(plainTags), Pass}, "changed": {strings.Replace(signed(plainTags), "Joe", "Eve", 1), Fail}} {
		for range 3 {
			m := newMessage(test.text)
			c := check{resolver: env.Resolver, now: filtertest.Start}
			if err := c.run(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			c.second.asked = 0
			c.content.body = canonical.NewBody(0, canonical.Simple)
			c.content.body.End()
			if v, err := c.judge(t.Context(), c.signatures[0]); err != nil || v.result != test.want || c.second.asked != 1 {
				t.Errorf("%s: %+v, %v, go-msgauth was asked %d times", name, v, err, c.second.asked)
			}
			if (c.differs != nil) != (test.want == Pass) {
				t.Errorf("%s: differs %v", name, c.differs)
			} else if c.differs != nil {
				f.report(c.differs)
			}
			m.Release()
		}
	}
	if strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), "domain=example.org selector=sel") {
		t.Errorf("%s", log.String())
	}
}
