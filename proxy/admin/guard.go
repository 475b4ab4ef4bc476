package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
)

// contentPolicy lets pages use what this server itself serves, and nothing inline: text that a client of ours has made
// cannot become a script.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'"

// securityHeaders go on every response. There is no Strict-Transport-Security: it would be about all ports of the host.
// The Referrer-Policy lets our own forms tell where they come from (Origin would be "null" with no-referrer).
var securityHeaders = [...][2]string{
	{"Content-Security-Policy", contentPolicy},
	{"X-Content-Type-Options", "nosniff"},
	{"X-Frame-Options", "DENY"},
	{"Referrer-Policy", "same-origin"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
	{"Cache-Control", "no-store"},
}

// guard is what every request goes through first.
func (s *Server) guard(next http.Handler) http.Handler {
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(refuseForeign))
	next = sameOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serving.Add(1)
		defer s.serving.Done()
		defer s.recovered(w, r)
		for _, h := range securityHeaders {
			w.Header().Set(h[0], h[1])
		}
		auth := s.auth()
		if auth == nil && !isLoopback(hostOf(r)) {
			http.Error(w, "Without a password (admin.password) this server answers only to 127.0.0.1, [::1] and localhost.", http.StatusMisdirectedRequest)
			return
		}
		if auth != nil { // connections stay open for those alone who may come in: see required
			w.Header().Set("Connection", "close")
		}
		if auth != nil && isBlind(r) {
			refuseForeign(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), visitorKey{}, clientOf(r))))
	})
}

func refuseForeign(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "This request would change something here, and comes from another site or does not tell from where.", http.StatusForbidden)
}

// isBlind tells whether a request of somebody who has signed in would change something and does not tell where it comes from.
// All browsers do since 2020; of programs, which send the password instead, nothing of the kind is asked
// (http.CrossOriginProtection). With that, and a cookie that browsers keep to our own pages, there is no need for a token in
// each form.
func isBlind(r *http.Request) bool {
	changes := r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
	return changes && sessionToken(r) != "" && r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Origin") == ""
}

// recovered turns a panic into an error that is logged and told; half a page that was written is cut off.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.Log.Error("panic in an admin page; please report it", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	http.Error(w, "Internal error; the log has more.", http.StatusInternalServerError)
}

type visitorKey struct{}

// Visitor names who makes a request of the pages or the API: nobody has a name there, but an address.
func Visitor(ctx context.Context) string {
	if a, ok := ctx.Value(visitorKey{}).(netip.Addr); ok && a.IsValid() {
		return "admin page, " + a.String()
	}
	return "admin page"
}

// hostOf is the host that the client believes it talks to.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	return strings.ToLower(host)
}
