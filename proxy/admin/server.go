package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"gatepost/filters"
	"gatepost/proxy/sockets"
)

// Bounds of a request and of all of them.
const (
	maxConnections = 64
	maxHeaderBytes = 16 << 10
	maxBody        = 2 << 20 // a rule file with its lists

	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = time.Minute // a handler that streams lifts its own
	idleTimeout   = 2 * time.Minute

	// Bounds of what operators ask for, all at a time.
	maxSearches = 4
	maxStreams  = 16

	// patience is how long requests may go on after the server was told to stop.
	patience = 5 * time.Second
	// bindPause is how soon an address that somebody else has is tried again.
	bindPause = 15 * time.Second
)

// Options is what a Server is made with.
type Options struct {
	Config   Config // enabled and valid
	Hostname string // our name on the pages
	Version  string
	Log      *slog.Logger
	Clock    filters.Clock
	Metrics  prometheus.Gatherer
	// Ready returns the reasons why no mail can be taken now; empty: it can.
	Ready func() []string
	// Hints returns what an operator should know although mail is taken; nil: there is never anything.
	Hints func() []string
	// House is what the pages show and change.
	House House
	// Traffic is told of every transaction.
	Traffic *Traffic
	Sockets *sockets.Set // that the process was given; nil: none
	Bound   net.Listener // where to serve; nil: at the address of Config, as soon as that can be had
}

// Server serves operators. Register handlers before Run; all else is safe for concurrent use.
type Server struct {
	Options
	mux      *http.ServeMux
	http     *http.Server
	settings atomic.Pointer[settings]
	serving  sync.WaitGroup
	notes    notes

	// Places for what is dear. A request that finds none is told to come again.
	searching, trying, streaming chan struct{}

	mu    sync.Mutex // guards bound
	bound net.Addr   // nil while there is no socket
}

// New makes a server that listens nowhere yet. It reads the certificate.
func New(o Options) (*Server, error) {
	s := &Server{Options: o, mux: http.NewServeMux(), searching: make(chan struct{}, maxSearches), trying: make(chan struct{}, 1),
		streaming: make(chan struct{}, maxStreams)}
	first, err := s.newSettings(o.Config)
	if err != nil {
		return nil, err
	}
	s.settings.Store(first)
	s.http = &http.Server{
		Handler:           s.guard(s.mux),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug), // handshakes that failed, and the like
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	s.routes()
	return s, nil
}

// Handle serves a pattern of [http.ServeMux] to who may come in.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, s.required(h)) }

func (s *Server) routes() {
	s.mux.HandleFunc("GET /health", s.health)
	s.mux.HandleFunc("GET /ready", s.ready)
	s.mux.Handle("GET /static/", static())
	s.mux.HandleFunc("GET /login", s.loginPage)
	s.mux.HandleFunc("POST /login", s.login)
	s.Handle("POST /logout", http.HandlerFunc(s.logout))
	s.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, Timeout: 20 * time.Second,
	}))
	s.pageRoutes()
	s.apiRoutes()
}

// Run serves until ctx ends, and waits for what is being served. Mail must not wait for operators: an address that
// cannot be had is logged and tried again.
func (s *Server) Run(ctx context.Context) {
	if s.Bound != nil {
		s.serve(ctx, s.Bound)
		return
	}
	for told := false; ctx.Err() == nil; {
		socket, err := Bind(ctx, s.Config, s.Sockets)
		if err == nil {
			s.serve(ctx, socket)
			return
		}
		if !told && ctx.Err() == nil {
			s.Log.Error("the admin address cannot be had; it is tried again", "address", s.Config.Address, "error", err)
			told = true
		}
		timer := time.NewTimer(bindPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// Bind opens the socket, unless it was given to the process.
func Bind(ctx context.Context, c Config, given *sockets.Set) (net.Listener, error) {
	socket, _, err := given.Listen(ctx, c.Socket())
	return socket, err
}

func (s *Server) serve(ctx context.Context, socket net.Listener) {
	s.setBound(socket.Addr())
	defer s.setBound(nil)
	s.Log.Info("the admin pages are served", "address", socket.Addr().String(), "tls", s.settings.Load().tls != nil, "password", s.auth() != nil)
	// Requests end with it: those that stream would else go on until they are cut off.
	requests, stop := context.WithCancel(ctx)
	defer stop()
	s.http.BaseContext = func(net.Listener) context.Context { return requests }
	limited := doorway{netutil.LimitListener(socket, maxConnections), s}
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(limited) }()
	select {
	case err := <-ended:
		s.Log.Error("the admin pages are not served any more", "error", err)
	case <-ctx.Done():
		bounded, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.http.Shutdown(bounded); err != nil {
			s.Log.Warn("requests to the admin pages were cut off", "error", err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			s.Log.Error("the admin pages", "error", err)
		}
	}
	s.http.Close()
	stop()
	s.serving.Wait()
}

func (s *Server) setBound(a net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = a
}

// Addr is where the server listens, nil while it does not.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bound
}
