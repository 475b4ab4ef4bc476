// Package admin is the HTTP server for operators: /metrics for Prometheus, /health and /ready for who starts and stops
// us, and the pages.
//
// # The way of a request
//
//	connection limit, deadlines (server.go)
//	   │
//	guard.go: security headers ─ Host (without a password) ─ no request of another origin changes anything
//	   │
//	mux ──┬─ /health /ready /login /static   for everybody
//	      └─ all else: Handle, for who has signed in (auth.go)
//
// # Who may come in
//
// Without a password the server listens on a loopback address, and everybody on the machine may come. A web page that
// somebody on it looks at may send requests there, too; so the Host must be a loopback one (against names that are made to
// lead here, "DNS rebinding"), and requests of another origin are refused unless they only read. Elsewhere it takes TLS
// and a password. A browser signs in and gets a cookie that only this server gets back (__Host-, Secure, HttpOnly,
// SameSite=Strict); a program sends the password with each request (Basic, any user name). Guesses are bounded for each
// network of clients.
//
// # What the pages show and do
//
// Everything goes through [House], which the command implements, and [Traffic], which counts transactions as they end.
// Pages (routes.go) are templates from web/; forms send the browser on to a page that tells what was done (notes.go).
// The page Now is also sent as events, for the script that renews it (now.go). The API ([Operations]) is one list, from
// which come its routes, the OpenAPI document (openapi.go) and the manual.
//
// All that a page shows was written by strangers. html/template escapes it for its place, visible makes what cannot be
// seen visible, over the whole page, so that no value can be forgotten; the policy for content allows nothing inline and
// nothing from elsewhere.
//
// # How pages are added
//
// Call [Server.Handle] before [Server.Run]. A handler returns soon after its request's context ends: that is when the
// server stops. One that writes for longer than a minute (server-sent events) lifts its own deadline with
// http.ResponseController. What is dear takes one of few places (search.go) and has a time.
package admin
