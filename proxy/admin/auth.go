package admin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

// authority knows the password and who has signed in. It is safe for concurrent use.
type authority struct {
	hash     *hash
	clock    filters.Clock
	guesses  guesses
	sessions sessions
	turn     chan struct{} // held while a password is hashed: that takes 64 MiB

	// A program sends the password with every request, and hashing it each time would be dear. So the last good one is
	// known by its HMAC under a key that nobody else has.
	key   [32]byte
	known atomic.Pointer[[sha256.Size]byte]
}

func newAuthority(h *hash, clock filters.Clock) *authority {
	a := &authority{hash: h, clock: clock, turn: make(chan struct{}, 1)}
	rand.Read(a.key[:]) // never fails
	return a
}

// hasSignedIn tells whether a request may come in without a password of its own; so may all if there is none, on a nil
// authority.
func (a *authority) hasSignedIn(r *http.Request) bool {
	return a == nil || a.sessions.valid(sessionToken(r), a.clock.Now())
}

// outcome is what became of a password.
type outcome uint8

const (
	wrong outcome = iota
	right
	tooMany // guesses from there: it was not looked at
)

// check looks at a password from a client; news tells of tooMany that it is the first.
//
// The right password is known by heart, but not to those who have no attempt left: they would learn without an end what is
// wrong.
func (a *authority) check(ctx context.Context, client netip.Addr, password string) (found outcome, news bool) {
	now := a.clock.Now()
	mac, spent := a.mac(password), a.guesses.isSpent(client, now)
	if known := a.known.Load(); !spent && known != nil && hmac.Equal(known[:], mac[:]) {
		a.guesses.befriend(client, now)
		return right, false
	}
	if allowed, first := a.guesses.allow(client, now); !allowed {
		return tooMany, first
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return tooMany, false
	}
	if !a.hash.matches(password) {
		return wrong, false
	}
	a.known.Store(&mac)
	a.guesses.befriend(client, now)
	return right, false
}

func (a *authority) mac(password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, a.key[:])
	h.Write([]byte(password[:min(len(password), maxPassword+1)]))
	h.Sum(sum[:0])
	return sum
}

// required lets those in who have signed in, or send the password with the request.
func (s *Server) required(next http.Handler) http.Handler {
	admitted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Del("Connection")
		next.ServeHTTP(w, r)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth := s.auth()
		if auth.hasSignedIn(r) {
			admitted.ServeHTTP(w, r)
			return
		}
		_, password, sent := r.BasicAuth()
		if !sent {
			s.askForPassword(w, r)
			return
		}
		client := clientOf(r)
		switch found, news := auth.check(bounded(r), client, password); found {
		case right:
			admitted.ServeHTTP(w, r)
		case tooMany:
			s.tellOfGuesses(client, news)
			refuseGuess(w)
		default:
			s.Log.Warn("admin: wrong password", "client", client.String(), "path", r.URL.Path)
			s.askForPassword(w, r)
		}
	})
}

// askForPassword sends a browser to the page for it, and tells a program that it is missing.
func (s *Server) askForPassword(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Redirect(w, r, "/login?"+url.Values{"next": {r.URL.RequestURI()}}.Encode(), http.StatusSeeOther)
		return
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="gatepost", charset="UTF-8"`)
	http.Error(w, "The password is missing or wrong.", http.StatusUnauthorized)
}

// tellOfGuesses has a line for the first attempt too many: whoever guesses on must not fill the log.
func (s *Server) tellOfGuesses(client netip.Addr, news bool) {
	if news {
		s.Log.Warn("admin: too many attempts to sign in; others are refused until there were fewer", "client", client.String())
	}
}

func refuseGuess(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "30")
	http.Error(w, "Too many attempts; wait a minute.", http.StatusTooManyRequests)
}

// bounded is a request's context that does not wait longer than the request's response could be written.
func bounded(r *http.Request) context.Context {
	ctx, cancel := context.WithTimeout(r.Context(), writeTimeout/4)
	context.AfterFunc(r.Context(), cancel)
	return ctx
}

// clientOf is the other end of the connection. What a proxy in front says of somebody else is not believed.
func clientOf(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap().WithZone("")
}

// cookieName: with the prefix browsers take it over TLS only, from this host only, and for all of it. Without TLS
// there is no password but on loopback, and no such promise.
func cookieName(secure bool) string {
	if secure {
		return "__Host-gatepost"
	}
	return "gatepost"
}

func sessionToken(r *http.Request) string {
	if c, err := r.Cookie(cookieName(r.TLS != nil)); err == nil {
		return c.Value
	}
	return ""
}

func (s *Server) setCookie(w http.ResponseWriter, token string, life time.Duration) {
	secure := s.settings.Load().tls != nil
	c := &http.Cookie{Name: cookieName(secure), Value: token, Path: "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode}
	if life <= 0 {
		c.MaxAge = -1
	} else {
		c.MaxAge = int(life.Seconds())
	}
	http.SetCookie(w, c)
}
