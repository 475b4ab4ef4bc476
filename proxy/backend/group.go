package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

// Options is what a Group is made with.
type Options struct {
	Hostname string // our name in EHLO where no client's is handed over
	Log      *slog.Logger
	Clock    filters.Clock // for the age of what is known; nil: the system's
	// TLS is the configuration of the TLS client to start from, or nil.
	TLS *tls.Config
	// DomainsConfigured tells that `domains:` is set.
	DomainsConfigured bool
}

// Group is all backends of one listener, in order of preference. Safe for concurrent use.
type Group struct {
	config  Config
	servers []*server
	probed  chan struct{} // closed after the first probe of each backend

	mu         sync.Mutex                 // guards the making of extensions
	extensions atomic.Pointer[Extensions] // nil: no backend was ever seen
}

// New makes the group from a valid configuration. It reads the file in `ca`, and opens no connection.
func New(c Config, o Options) (*Group, error) {
	if err := errors.Join(c.Validate(), c.ValidateDomains(o.DomainsConfigured)); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = filters.SystemClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if c.CA != "" {
		roots, err := readRoots(c.CA)
		if err != nil {
			return nil, &filters.KeyError{Key: "ca", Err: err}
		}
		base := &tls.Config{}
		if o.TLS != nil {
			base = o.TLS.Clone()
		}
		base.RootCAs, o.TLS = roots, base
	}
	g := &Group{config: c, probed: make(chan struct{})}
	for i, address := range c.Address {
		g.servers = append(g.servers, newServer(i, address, &g.config, o, g.intersect))
	}
	return g, nil
}

func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", path)
	}
	return roots, nil
}

// Extensions is what every backend offers that was ever seen; SIZE is the smallest. ok is false while none was.
func (g *Group) Extensions() (e Extensions, ok bool) {
	if p := g.extensions.Load(); p != nil {
		return *p, true
	}
	return noExtensions, false
}

// intersect renews what Extensions returns.
func (g *Group) intersect() {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all *Extensions
	for _, s := range g.servers {
		switch k := s.known.Load(); {
		case k == nil:
		case all == nil:
			e := k.extensions
			all = &e
		default:
			e := all.and(k.extensions)
			all = &e
		}
	}
	g.extensions.Store(all)
}

// Verifies tells whether every backend is spoken to over TLS with a certificate that was verified.
func (g *Group) Verifies() bool { return g.config.TLS == TLSVerified }

// Seen tells whether some backend has ever answered.
func (g *Group) Seen() bool { return g.extensions.Load() != nil }

// Ready is why RCPT may not be answered yet, nil if it may: with relay_check on, some backend must have refused to relay
// for a stranger. The text is fit for a log line.
func (g *Group) Ready() error {
	var first error
	for _, s := range g.servers {
		err := s.usable()
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// Probed is closed when Run has asked each backend once, successfully or not.
func (g *Group) Probed() <-chan struct{} { return g.probed }

// Dial opens a session for the client on the first backend that can be had: connect, greeting, hand-over, EHLO. With
// `eager`, where the backend's ways are known, the answers to hand-over and EHLO are awaited by the first [Conn.Reply] only.
//
// Every error is or wraps an *[Error]; one that is Refused is the backend's word on this client.
func (g *Group) Dial(ctx context.Context, c Client) (*Conn, error) { return g.dial(ctx, c, nil) }

// DialNext goes on with the backends after the one that failed: all that were not tried for this client yet. A kept
// connection that turned out to be dead does not count as a try, nor does one where the backend did not take what `eager`
// does. failed is closed.
func (g *Group) DialNext(ctx context.Context, c Client, failed *Conn) (*Conn, error) {
	failed.Close()
	return g.dial(ctx, c, failed)
}

func (g *Group) dial(ctx context.Context, c Client, failed *Conn) (*Conn, error) {
	var tried [maxBackends]bool
	var how manner
	if failed != nil {
		tried = failed.tried
		if failed.again() {
			tried[failed.server.index], how.fresh = false, failed.stale()
		}
	}
	var errs []error
	for s := g.next(&tried); s != nil; s = g.next(&tried) {
		tried[s.index] = true
		if err := s.usable(); err != nil {
			errs = append(errs, err)
			continue
		}
		how.patient = g.next(&tried) == nil
		conn, err := g.attempt(ctx, s, c, how)
		if err == nil {
			conn.tried = tried
			return conn, nil
		}
		var e *Error
		if errors.As(err, &e) && e.Refused {
			return nil, err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	switch len(errs) {
	case 0:
		return nil, &Error{Address: "list", Step: "connect", Err: errors.New("every backend was tried")}
	case 1:
		return nil, errs[0]
	}
	return nil, errors.Join(errs...)
}

// next is the first backend in the list that was not tried, those that failed a short while ago last.
func (g *Group) next(tried *[maxBackends]bool) *server {
	var down *server
	for _, s := range g.servers {
		switch {
		case tried[s.index]:
		case !s.down():
			return s
		case down == nil:
			down = s
		}
	}
	return down
}

// attempt leaves half of the time for the others if there are any.
func (g *Group) attempt(ctx context.Context, s *server, c Client, how manner) (*Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && !how.patient {
		short, cancel := context.WithDeadline(ctx, time.Now().Add(time.Until(deadline)/2))
		defer cancel()
		ctx = short
	}
	started := time.Now()
	conn, err := s.dial(ctx, c, how)
	n := &s.counters
	n.dial.Observe(time.Since(started))
	switch e, ok := errors.AsType[*Error](err); {
	case err == nil && conn.kept:
		n.reused.Add(1)
	case err == nil:
		n.opened.Add(1)
	case ok && e.Refused:
		n.refused.Add(1)
	default:
		n.failed.Add(1)
	}
	return conn, err
}
