package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"gatepost/filters"
)

const (
	// freshness is how long the keywords last seen are trusted enough to pipeline on them.
	freshness = 10 * time.Minute
	// maxDown is the longest time that a backend which failed is passed over for others.
	maxDown = 30 * time.Second
	// tlsRetry is how long an opportunistic backend goes without TLS after a handshake that failed.
	tlsRetry = 10 * time.Minute
)

// server is one backend: where it is and what is known of it. Safe for concurrent use.
type server struct {
	index   int
	address string
	literal netip.AddrPort // the same; not valid if that is a name or a path
	config  *Config
	host    string // our own name
	clock   filters.Clock
	log     *slog.Logger
	tlsMode TLSMode // never TLSAuto
	tls     *tls.Config
	pool    pool

	counters  counters
	known     atomic.Pointer[knowledge] // nil: never seen
	relay     atomic.Pointer[verdict]   // nil: not checked yet
	failures  atomic.Int32              // in a row
	downUntil moment
	noTLS     moment        // until then
	lockStep  atomic.Bool   // it did not like what `eager` does
	wake      chan struct{} // asks the prober to look soon
	changed   func()        // tells the group that known has changed
}

// moment is a time that several may read and set. It keeps the machine's own count, by which times are compared then: with
// nanoseconds since 1970, a clock that is set back by a day would put off for a day what was put off for a second.
type moment struct{ at atomic.Pointer[time.Time] }

func (m *moment) set(t time.Time) { m.at.Store(&t) }

func (m *moment) ahead(now time.Time) bool {
	t := m.at.Load()
	return t != nil && now.Before(*t)
}

// knowledge is what a backend answered to EHLO, in a stranger's name. Never written after it is published.
type knowledge struct {
	extensions Extensions // after the hand-over
	offered    []string   // XCLIENT attributes before the hand-over
	seen       time.Time
}

// verdict is the outcome of the relay check.
type verdict struct {
	err    error // nil: it has refused to relay for a stranger
	proved bool  // err says that it relays, not that nobody knows
}

func newServer(index int, address string, c *Config, o Options, changed func()) *server {
	s := &server{index: index, address: address, literal: literalOf(address), config: c, host: o.Hostname, clock: o.Clock,
		log: o.Log.With("backend", address), tlsMode: c.TLS, wake: make(chan struct{}, 1), changed: changed}
	s.pool.max, s.pool.limit = c.Connections, c.Connections
	if s.tlsMode == TLSAuto {
		s.tlsMode = TLSOpportunistic
		if isLocal(address) {
			s.tlsMode = TLSNone
		}
	}
	s.tls = &tls.Config{}
	if o.TLS != nil {
		s.tls = o.TLS.Clone()
	}
	s.tls.ServerName, _, _ = net.SplitHostPort(address)
	// Without a name to check, a certificate proves nothing: opportunistic and required keep listeners out, not impostors
	// (RFC 7435).
	s.tls.InsecureSkipVerify = s.tlsMode != TLSVerified
	return s
}

// fresh is what is known and new enough to rely on, or nil.
func (s *server) fresh() *knowledge {
	k := s.known.Load()
	if k == nil || s.clock.Now().Sub(k.seen) > freshness {
		return nil
	}
	return k
}

// learn keeps what a stranger's session has shown. Real clients' sessions may differ from one another (Postfix:
// smtpd_discard_ehlo_keyword_address_maps): they count only while nothing is known.
func (s *server) learn(k *knowledge) {
	s.known.Store(k)
	s.changed()
}

// handsOver tells that clients and strangers can be told apart by the backend.
func (s *server) handsOver() bool { return s.config.ClientAddress != NoAddress }

// wantsTLS tells whether connections are to be secured.
func (s *server) wantsTLS() bool {
	return s.tlsMode != TLSNone && !s.noTLS.ahead(s.clock.Now())
}

// usable is why no client may be taken there, or nil.
func (s *server) usable() error {
	if !s.config.RelayCheck || !s.handsOver() {
		return nil
	}
	v := s.relay.Load()
	if v == nil {
		return &Error{Address: s.address, Step: "relay check", Err: errors.New("it has not been done yet")}
	}
	return v.err
}

func (s *server) down() bool { return s.downUntil.ahead(s.clock.Now()) }

// failed notes that no session could be had, so that others are asked first for a while.
func (s *server) failed(err error) {
	n := s.failures.Add(1)
	pause := min(time.Second<<min(n-1, 10), maxDown)
	s.downUntil.set(s.clock.Now().Add(jitter(pause)))
	level := slog.LevelDebug
	if n == 1 {
		level = slog.LevelWarn
	}
	s.log.Log(context.Background(), level, "backend out of order", "error", err.Error())
	s.nudge()
}

// turnsAway notes that the backend did not want one more connection. It is false if none of ours can be the
// reason.
func (s *server) turnsAway() bool {
	left, first := s.pool.shrink(s.clock.Now())
	if left == 0 {
		return !first
	}
	s.downUntil.set(s.clock.Now().Add(jitter(time.Second))) // others first
	if first {
		s.log.Warn("the backend turns connections away; no more than those that are open are used for a while",
			"open", left, "advice", "lower backend.connections, or raise the backend's own limit")
	}
	return true
}

// works notes that a session could be had.
func (s *server) works() {
	if s.failures.Load() != 0 && s.failures.Swap(0) != 0 {
		s.downUntil.set(time.Time{})
		s.log.Info("backend works again")
	}
}

// nudge asks the prober to look soon.
func (s *server) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// jitter keeps many proxies and backends from acting in step: d, a fifth more or less.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// connect opens a connection for the client and says on it what goes before SMTP.
func (s *server) connect(ctx context.Context, c Client) (*link, error) {
	timeout := time.Duration(s.config.ConnectTimeout)
	nc, err := s.dialSocket(ctx, c, timeout)
	var family *net.AddrError
	switch {
	case err != nil && s.config.ClientAddress == Transparent && errors.As(err, &family): // found before anything is sent
		return nil, &Error{Address: s.address, Step: "connect", Err: errFamily,
			Advice: "client_address: transparent needs an address of the backend for IPv4 and one for IPv6 clients, or a listener for one of them only"}
	case err != nil:
		return nil, &Error{Address: s.address, Step: "connect", Err: err, Advice: s.connectAdvice()}
	}
	l := newLink(nc)
	var header []byte
	switch s.config.ClientAddress {
	case ProxyV1:
		header = appendProxyV1(nil, c.Addr, c.Local)
	case ProxyV2:
		header = appendProxyV2(nil, c.Addr, c.Local)
	default:
		return l, nil
	}
	// One write: Postfix and Dovecot refuse a header that comes in two segments.
	l.arm(ctx, timeout)
	if _, err := nc.Write(header); err != nil {
		l.close()
		return nil, &Error{Address: s.address, Step: "PROXY header", Err: ioError(ctx, err), Advice: s.handOverAdvice()}
	}
	return l, nil
}

// dialSocket leaves to package net what is more than one address to connect to.
func (s *server) dialSocket(ctx context.Context, c Client, timeout time.Duration) (net.Conn, error) {
	if s.config.ClientAddress != Transparent && s.literal.IsValid() {
		return dialAddress(ctx, s.literal, timeout)
	}
	dialer := &net.Dialer{}
	if s.config.ClientAddress == Transparent {
		var err error
		if dialer, err = transparentDialer(c.Addr.Addr().Unmap().WithZone("")); err != nil {
			return nil, err
		}
	}
	dialer.Timeout = timeout
	dialer.KeepAlive = -1 // four system calls; every wait has its own time-out, and idle connections live for a minute
	if path, ok := strings.CutPrefix(s.address, "unix:"); ok {
		return dialer.DialContext(ctx, "unix", path)
	}
	return dialer.DialContext(ctx, "tcp", s.address)
}

// literalOf is an address as configured, if it is that of one socket and nothing has to be looked up.
func literalOf(address string) netip.AddrPort {
	literal, err := netip.ParseAddrPort(address)
	if err != nil || literal.Addr().Zone() != "" {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(literal.Addr().Unmap(), literal.Port())
}

func (s *server) connectAdvice() string {
	if s.config.ClientAddress == Transparent {
		return "client_address: transparent needs CAP_NET_RAW, and the backend's route to the clients must lead back through this machine"
	}
	return ""
}

// handOverAdvice is what to look at when the backend does not take the client's address.
func (s *server) handOverAdvice() string {
	switch s.config.ClientAddress {
	case XClient:
		return "let this machine use XCLIENT (Postfix: smtpd_authorized_xclient_hosts), or set backend.client_address to what the backend can take"
	case ProxyV1, ProxyV2:
		return "let the backend expect a PROXY header from this machine (Postfix: smtpd_upstream_proxy_protocol=haproxy; Exim: hosts_proxy; " +
			"OpenSMTPD: listen … proxy-v2), or set backend.client_address to what the backend can take"
	}
	return ""
}
