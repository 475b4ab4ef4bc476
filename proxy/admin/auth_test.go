package admin

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func signIn(v *running, password, next string) (*http.Response, string) {
	return v.do("POST", "/login", url.Values{"password": {password}, "next": {next}}.Encode(), nil)
}

func TestSigningIn(t *testing.T) {
	v := start(t, secured(t), nil)
	html := func(r *http.Request) { r.Header.Set("Accept", "text/html,*/*") }
	response, _ := v.do("GET", "/?a=b", "", html)
	if at := response.Header.Get("Location"); response.StatusCode != http.StatusSeeOther || at != "/login?next=%2F%3Fa%3Db" {
		t.Fatalf("%d to %q", response.StatusCode, at)
	}
	if response, _ = v.do("GET", "/metrics", "", nil); response.StatusCode != 401 || !strings.HasPrefix(response.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("a program hears %d", response.StatusCode)
	}
	if response, _ = v.do("POST", "/logout", "", html); response.StatusCode != 401 {
		t.Errorf("a change without a password: %d", response.StatusCode)
	}
	if response, text := signIn(v, "guess", "/x"); response.StatusCode != 403 || !strings.Contains(text, "That is not the password.") || !strings.Contains(text, `value="/x"`) {
		t.Errorf("a wrong password: %d", response.StatusCode)
	}
	response, _ = signIn(v, password, "/metrics")
	cookies := response.Cookies()
	if response.StatusCode != http.StatusSeeOther || response.Header.Get("Location") != "/metrics" || len(cookies) != 1 {
		t.Fatalf("%d, %v", response.StatusCode, cookies)
	}
	if c := cookies[0]; c.Name != "__Host-gatepost" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("the cookie: %v", c)
	}
	if status, text := v.get("/metrics"); status != 200 || !strings.Contains(text, "one 1") {
		t.Errorf("signed in: %d", status)
	}
	if status, text := v.get("/"); status != 200 || !strings.Contains(text, "Sign out") {
		t.Errorf("signed in: %d", status)
	}
	copied := cookies[0].Value
	ours := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }
	if response, _ = v.do("POST", "/logout", "", ours); response.StatusCode != http.StatusSeeOther {
		t.Errorf("signing out: %d", response.StatusCode)
	}
	stale := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "__Host-gatepost", Value: copied}) }
	if response, _ = v.do("GET", "/metrics", "", stale); response.StatusCode != 401 {
		t.Errorf("signed out, with the cookie: %d", response.StatusCode)
	}
	if text := v.log.String(); strings.Contains(text, password) || strings.Contains(text, copied) || strings.Contains(text, "guess") {
		t.Errorf("a secret is in the log: %s", text)
	}
}

func TestOpenToAll(t *testing.T) {
	v := start(t, secured(t), nil)
	v.ready = []string{"backend 192.0.2.1:25 is down"}
	if status, text := v.get("/ready"); status != 503 || text != "not ready\n" {
		t.Errorf("a stranger learns: %d %q", status, text)
	}
	if status, _ := v.get("/health"); status != 200 {
		t.Errorf("%d", status)
	}
}

// The connections that there may be are for those who may come in.
func TestStrangersDoNotKeepConnections(t *testing.T) {
	v := start(t, secured(t), nil)
	for _, path := range []string{"/health", "/login", "/metrics", "/static/style.css"} {
		if response, _ := v.do("GET", path, "", nil); !response.Close {
			t.Errorf("%s: the connection stays", path)
		}
	}
	if response, _ := v.do("GET", "/metrics", "", func(r *http.Request) { r.SetBasicAuth("x", password) }); response.Close {
		t.Error("a scraper has to connect anew each time")
	}
}

func TestASignInEnds(t *testing.T) {
	v := start(t, secured(t), nil)
	in := func() bool { status, _ := v.get("/metrics"); return status == 200 }
	signIn(v, password, "/")
	for range 13 { // 143 h
		v.clock.Advance(sessionIdle - time.Hour)
		if !in() {
			t.Fatal("it ended while it was used")
		}
	}
	v.clock.Advance(sessionIdle)
	if in() {
		t.Error("it was not used and goes on")
	}
	signIn(v, password, "/")
	for range 16 {
		v.clock.Advance(sessionIdle - time.Hour)
		in()
	}
	if in() {
		t.Error("it lasts for ever")
	}
}

func TestProgramsSendThePassword(t *testing.T) {
	v := start(t, secured(t), nil)
	with := func(password string) int {
		response, _ := v.do("GET", "/metrics", "", func(r *http.Request) { r.SetBasicAuth("prometheus", password) })
		return response.StatusCode
	}
	if got := with(password); got != 200 {
		t.Fatalf("%d", got)
	}
	for range 2 * guessBurst {
		with("wrong")
	}
	if got := with("wrong"); got != http.StatusTooManyRequests {
		t.Errorf("guesses without an end: %d", got)
	}
	if got := with(password); got != 200 { // it is known: nobody can lock the scraper out
		t.Errorf("locked out: %d", got)
	}
	if response, _ := signIn(v, "wrong", "/"); response.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the form has guesses of its own: %d", response.StatusCode)
	}
	v.clock.Advance(time.Minute)
	if got := with("wrong"); got != 401 {
		t.Errorf("after a minute: %d", got)
	}
}

// Who has used up his guesses does not learn from another one whether it was right, though the right one is known by heart. Who
// has given it before is not locked out by guesses from his network.
func TestGuessesEndAlsoForTheRightPassword(t *testing.T) {
	clock := filtertest.NewClock()
	h, err := parseHash(cheap())
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(h, clock)
	operator, guesser := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	check := func(client netip.Addr, password string) outcome {
		got, _ := a.check(t.Context(), client, password)
		return got
	}
	if got := check(operator, password); got != right {
		t.Fatalf("%v", got)
	}
	for range guessBurst {
		if got := check(guesser, "wrong"); got != wrong {
			t.Fatalf("%v", got)
		}
	}
	if got := check(guesser, password); got != tooMany {
		t.Errorf("the guess after the last is told from others: %v", got)
	}
	for range guessBurst {
		check(operator, "wrong")
	}
	if got := check(operator, password); got != right {
		t.Errorf("locked out: %v", got)
	}
	for range friendBurst {
		check(operator, "wrong") // by somebody else at the same address
	}
	if got := check(operator, password); got != tooMany {
		t.Errorf("guesses from an address that had the password have no end: %v", got)
	}
	clock.Advance(friendPause)
	if got := check(operator, password); got != right {
		t.Errorf("locked out for long: %v", got)
	}
	clock.Advance(friendLife)
	for range guessBurst {
		check(operator, "wrong")
	}
	if got := check(operator, password); got != tooMany {
		t.Errorf("known for ever: %v", got)
	}
}

// The log has a line for the first attempt too many, not for each.
func TestTooManyAttemptsAreLoggedOnce(t *testing.T) {
	v := start(t, secured(t), nil)
	for range guessBurst + 20 {
		signIn(v, "wrong", "/")
		v.do("GET", "/metrics", "", func(r *http.Request) { r.SetBasicAuth("x", "wrong") })
	}
	if n := strings.Count(v.log.String(), "too many attempts"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

func TestTheWayBackIsOurs(t *testing.T) {
	for next, want := range map[string]string{
		"/search?q=a": "/search?q=a", "": "/", "//evil.example": "/", "https://evil.example": "/", `/\evil.example`: "/", "/\tx": "/", "/a\r\nX: y": "/",
	} {
		if got := localPath(next); got != want {
			t.Errorf("%q became %q", next, got)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var s sessions
	var g guesses
	now := filtertest.Start
	first := s.begin(now)
	for i := range maxSessions {
		s.begin(now.Add(time.Duration(i+1) * time.Second))
	}
	if len(s.open) != maxSessions || s.valid(first, now) {
		t.Errorf("%d sessions", len(s.open))
	}
	for i := range 3 * maxGuessers {
		g.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(g.networks) > maxGuessers {
		t.Errorf("%d networks", len(g.networks))
	}
	for i := range 3 * maxFriends {
		g.befriend(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(g.friends) > maxFriends {
		t.Errorf("%d friends", len(g.friends))
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:2")
	for range guessBurst {
		g.allow(a, now)
	}
	if allowed, _ := g.allow(b, now); allowed {
		t.Error("a /64 is more than one client")
	}
}

func TestHashes(t *testing.T) {
	text, err := Hash("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHash(text)
	if err != nil || h.String() != text || !h.matches("correct horse battery") || h.matches("correct horse batterz") || h.matches("") {
		t.Errorf("%s: %v", text, err)
	}
	if again, _ := Hash("correct horse battery"); again == text {
		t.Error("without salt")
	}
	for _, bad := range []string{"short", strings.Repeat("x", maxPassword+1)} {
		if _, err := Hash(bad); err == nil {
			t.Errorf("%.10q was taken", bad)
		}
	}
	// In the form of the command argon2 (-id -t 2 -k 1024 -p 1 -l 24 -e).
	if _, err := parseHash("$argon2id$v=19$m=1024,t=2,p=1$c29tZXNhbHQ$" + strings.Repeat("A", 32)); err != nil {
		t.Error(err)
	}
}

func TestBadHashes(t *testing.T) {
	good := cheap()
	salt := base64.RawStdEncoding.EncodeToString([]byte("saltsalt"))
	for _, text := range []string{
		"", "secret", "$", good + "$", good[1:], strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=8", "m=9999999", 1), strings.Replace(good, "m=8", "m=7", 1), strings.Replace(good, "t=1", "t=0", 1),
		strings.Replace(good, "t=1", "t=99", 1), strings.Replace(good, "p=1", "p=0", 1), strings.Replace(good, "p=1", "p=256", 1),
		strings.Replace(good, ",t=1", "", 1), strings.Replace(good, salt, "c2FsdA", 1), strings.Replace(good, salt, "!", 1), good[:len(good)-4],
	} {
		if _, err := parseHash(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func FuzzHash(f *testing.F) {
	f.Add(cheap())
	f.Add("$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := parseHash(text)
		if err != nil {
			return
		}
		again, err := parseHash(h.String())
		if err != nil || again.String() != h.String() {
			t.Fatalf("%q became %q, %v", text, h.String(), err)
		}
	})
}

func TestConfig(t *testing.T) {
	secret := filters.NewSecret(cheap())
	for _, c := range []Config{
		Default(), {Address: "off"}, {Address: "localhost:1"}, {Address: "[::1]:8025"}, {Address: "127.0.0.1:1", Password: secret},
		{Address: ":8025", Certificate: "c", Password: secret}, {Address: "192.0.2.1:8025", Certificate: "c", Key: "k", Password: secret},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for want, c := range map[string]Config{
		`address: "8025" is not host:port`:          {Address: "8025"},
		"address: :8025 can be reached from other":  {Address: ":8025", Password: secret},
		"set password too (`gatepost admin":         {Address: "192.0.2.1:8025", Certificate: "c"},
		"key: a key without a certificate":          {Address: "127.0.0.1:1", Key: "k"},
		"password: not a hash as `gatepost admin":   {Address: "127.0.0.1:1", Password: filters.NewSecret("secret")},
		"address: localhost.example:1 can be reach": {Address: "localhost.example:1", Certificate: "c"},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	if text := fmt.Sprintf("%+v", Config{Password: secret}); strings.Contains(text, "argon2id") {
		t.Error("the hash is printed")
	}
}
