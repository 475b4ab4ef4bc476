package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// sessionIdle is how long somebody who has signed in may do nothing.
	sessionIdle = 12 * time.Hour
	// sessionLife is how long a sign-in lasts at most.
	sessionLife = 7 * 24 * time.Hour
	// maxSessions bounds them; the one that was not used for the longest time goes first.
	maxSessions = 64
)

// sessions are those who have signed in. They live in memory: a restart ends them. A token is known by its digest only,
// so that looking it up tells nothing about others by the time that it takes. Safe for concurrent use.
type sessions struct {
	mu   sync.Mutex // guards open
	open map[[sha256.Size]byte]*signedIn
}

type signedIn struct{ since, used time.Time }

// begin makes a token.
func (s *sessions) begin(now time.Time) (token string) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails
	token = base64.RawURLEncoding.EncodeToString(secret[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[[sha256.Size]byte]*signedIn{}
	}
	if len(s.open) >= maxSessions {
		s.makeRoom()
	}
	s.open[sha256.Sum256([]byte(token))] = &signedIn{now, now}
	return token
}

// makeRoom ends the session that was not used for the longest time. s.mu is held.
func (s *sessions) makeRoom() {
	var oldest [sha256.Size]byte
	var used time.Time
	for digest, v := range s.open {
		if used.IsZero() || v.used.Before(used) {
			oldest, used = digest, v.used
		}
	}
	delete(s.open, oldest)
}

// valid tells whether a token is one of ours and has not expired.
func (s *sessions) valid(token string, now time.Time) bool {
	if token == "" || len(token) > 100 {
		return false
	}
	digest := sha256.Sum256([]byte(token))
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.open[digest]
	if v == nil {
		return false
	}
	if now.Sub(v.used) >= sessionIdle || now.Sub(v.since) >= sessionLife {
		delete(s.open, digest)
		return false
	}
	v.used = now
	return true
}

// end forgets a token.
func (s *sessions) end(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(token)))
}

const (
	// guessBurst is how many passwords one network may try at once, and one more every guessPause.
	guessBurst = 5
	guessPause = 30 * time.Second
	// maxGuessers bounds the networks that are remembered.
	maxGuessers = 4096
)

// guesses bounds how fast passwords can be tried. Safe for concurrent use.
type guesses struct {
	mu       sync.Mutex // guards all below
	networks map[netip.Prefix]*guesser
	friends  map[netip.Addr]*friend
}

type guesser struct {
	*rate.Limiter
	told bool // that there were too many
}

const (
	// friendLife is how long an address is known from which the password came, such as that of who collects metrics: guesses
	// from its network do not lock it out. Somebody else may have the same address, so that has a bound, too.
	friendLife  = time.Hour
	friendBurst = 20
	friendPause = time.Second
	maxFriends  = 256
)

type friend struct {
	*rate.Limiter
	seen time.Time
}

// isSpent tells whether a client's network has no attempt left, and its address no other claim to be heard.
func (g *guesses) isSpent(client netip.Addr, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if guesser := g.networks[networkOf(client)]; guesser == nil || guesser.TokensAt(now) >= 1 {
		return false
	}
	f := g.friends[client]
	return f == nil || now.Sub(f.seen) >= friendLife || !f.AllowN(now, 1)
}

// befriend remembers that the password came from an address.
func (g *guesses) befriend(client netip.Addr, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.friends[client]; f != nil {
		f.seen = now
		return
	}
	if g.friends == nil {
		g.friends = map[netip.Addr]*friend{}
	}
	for other, f := range g.friends {
		if now.Sub(f.seen) >= friendLife || len(g.friends) >= maxFriends {
			delete(g.friends, other)
		}
	}
	g.friends[client] = &friend{rate.NewLimiter(rate.Every(friendPause), friendBurst), now}
}

// networkOf is an IPv4 address, or an IPv6 /64, of which a customer has all.
func networkOf(client netip.Addr) netip.Prefix {
	bits := 32
	if client.Is6() {
		bits = 64
	}
	network, _ := client.Prefix(bits)
	return network
}

// allow takes one attempt of a client's network; first tells that there was none left for the first time.
func (g *guesses) allow(client netip.Addr, now time.Time) (allowed, first bool) {
	network := networkOf(client)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.networks == nil {
		g.networks = map[netip.Prefix]*guesser{}
	}
	from := g.networks[network]
	if from == nil {
		if len(g.networks) >= maxGuessers {
			g.makeRoom(now)
		}
		from = &guesser{Limiter: rate.NewLimiter(rate.Every(guessPause), guessBurst)}
		g.networks[network] = from
	}
	allowed = from.AllowN(now, 1)
	first = !allowed && !from.told
	from.told = !allowed
	return allowed, first
}

// makeRoom forgets who has waited long enough, and where that is nobody, any sixteenth. g.mu is held.
func (g *guesses) makeRoom(now time.Time) {
	for network, limiter := range g.networks {
		if limiter.TokensAt(now) >= guessBurst {
			delete(g.networks, network)
		}
	}
	for network := range g.networks {
		if len(g.networks) < maxGuessers-maxGuessers/16 {
			return
		}
		delete(g.networks, network)
	}
}
