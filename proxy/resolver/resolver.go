package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"gatepost/filters"
)

// Resolver is a caching [filters.Resolver]. It is safe for concurrent use.
type Resolver struct {
	// Metrics may be replaced before the first look-up, by those of a resolver that this one follows.
	Metrics *Metrics

	servers []*server
	timeout time.Duration
	attempt time.Duration
	clock   filters.Clock
	log     *slog.Logger
	cache   *cache

	slots   chan struct{} // one per flight
	mu      sync.Mutex    // guards flights, closed
	flights map[key]*flight
	closed  bool
	running sync.WaitGroup     // the flights
	ctx     context.Context    // of all flights
	cancel  context.CancelFunc // ends ctx
}

var (
	_ filters.Resolver = (*Resolver)(nil)
	_ filters.Ready    = (*Resolver)(nil)
)

// NeverWaitsInAttempt implements [filters.Ready]: the cache answers, or nobody.
func (r *Resolver) NeverWaitsInAttempt() {}

// New makes a resolver from a valid configuration; it reads /etc/resolv.conf where that names no servers. clock rules
// the cache. Servers that fall silent, and come back, are logged. Close it.
func New(c Config, clock filters.Clock, log *slog.Logger) (*Resolver, error) {
	addresses, err := serverAddresses(c, resolvConf)
	if err != nil {
		return nil, err
	}
	r := &Resolver{
		Metrics: &Metrics{},
		timeout: time.Duration(c.Timeout),
		attempt: time.Duration(c.Attempt),
		clock:   clock,
		log:     log,
		cache:   newCache(c.Cache, clock),
		slots:   make(chan struct{}, c.Inflight),
		flights: map[key]*flight{},
	}
	for _, a := range addresses {
		r.servers = append(r.servers, &server{address: a.String(), near: isNear(a.String())})
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Close ends all questions that are on their way and waits for them. Later look-ups fail.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.running.Wait()
	for _, s := range r.servers {
		s.spare.close()
	}
}

// Spare is how many sockets are kept for the next questions, at most 64 for each server on this machine.
func (r *Resolver) Spare() (n int) {
	for _, s := range r.servers {
		n += s.spare.count()
	}
	return n
}

// LookupA implements [filters.Resolver].
func (r *Resolver) LookupA(ctx context.Context, name string) ([]netip.Addr, error) {
	a := r.lookup(ctx, nameKey(dns.TypeA, name))
	return a.addresses, a.err
}

// LookupAAAA implements [filters.Resolver].
func (r *Resolver) LookupAAAA(ctx context.Context, name string) ([]netip.Addr, error) {
	a := r.lookup(ctx, nameKey(dns.TypeAAAA, name))
	return a.addresses, a.err
}

// LookupTXT implements [filters.Resolver].
func (r *Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a := r.lookup(ctx, nameKey(dns.TypeTXT, name))
	return a.texts, a.err
}

// LookupMX implements [filters.Resolver].
func (r *Resolver) LookupMX(ctx context.Context, name string) ([]filters.MX, error) {
	a := r.lookup(ctx, nameKey(dns.TypeMX, name))
	return a.exchangers, a.err
}

// LookupPTR implements [filters.Resolver].
func (r *Resolver) LookupPTR(ctx context.Context, ip netip.Addr) ([]string, error) {
	a := r.lookup(ctx, key{qtype: dns.TypePTR, ip: ip.Unmap().WithZone("")})
	return a.texts, a.err
}

// key is what is asked: a name, or for PTR an address, so that a cached answer costs no text.
type key struct {
	qtype uint16
	name  string // lower case, no final dot
	ip    netip.Addr
}

func nameKey(qtype uint16, name string) key {
	return key{qtype: qtype, name: strings.ToLower(strings.TrimSuffix(name, "."))}
}

// question returns the name that goes into the query.
func (k key) question() string {
	if k.qtype != dns.TypePTR {
		return k.name
	}
	reverse, err := dns.ReverseAddr(k.ip.String())
	if err != nil {
		return "" // an invalid address: not askable
	}
	return strings.TrimSuffix(reverse, ".")
}

// Error says which question failed and why.
type Error struct {
	Type string // "TXT"
	Name string
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("dns: %s of %q: %v", e.Type, e.Name, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Temporary tells whether the same question may be answered later.
func (e *Error) Temporary() bool { return !errors.Is(e.Err, filters.ErrNXDomain) }

// Timeout tells whether nobody answered in time.
func (e *Error) Timeout() bool {
	return errors.Is(e.Err, errNoAnswer) || errors.Is(e.Err, context.DeadlineExceeded)
}

var (
	errNoAnswer = errors.New("no server answered in time")
	errClosed   = errors.New("the resolver is closed")
)

// failed is the answer that is an error.
func failed(k key, err error) *answer {
	name := k.question()
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	return &answer{err: &Error{Type: dns.TypeToString[k.qtype], Name: name, Err: err}}
}

// temporary is a failure that the cache may keep, but not for long.
func temporary(k key, err error) *answer {
	a := failed(k, err)
	a.ttl = failureTTL
	return a
}
