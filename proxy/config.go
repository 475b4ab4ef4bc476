package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"gatepost/filters"
	"gatepost/proxy/wire"
)

// Listen is one entry of `listen:`.
type Listen struct {
	// Address to listen on, host:port. An empty host means every address of the machine.
	Address string `yaml:"address"`
	// Certificate is the file with the certificate chain in PEM; empty: there is no TLS. A file that changes is read again
	// within a minute; one that cannot be used is logged, and the old one serves on.
	Certificate string `yaml:"certificate"`
	// Key is the file with the certificate's private key in PEM; empty: it is in the file of the certificate.
	Key string `yaml:"key"`
	// Certificates lists more of them: for other names (clients say which one they want), or with a key of another kind.
	Certificates []Certificate `yaml:"certificates"`
	// ImplicitTLS begins every connection with the TLS handshake, as on port 465 (RFC 8314), instead of by STARTTLS.
	ImplicitTLS bool `yaml:"implicit_tls"`
	// MinTLS is the lowest version of TLS that is spoken: 1.0, 1.1, 1.2 or 1.3. Mail servers that cannot speak it come in
	// the clear, which is no improvement on port 25.
	MinTLS TLSVersion `yaml:"min_tls"`
	// ClientCA is the file with the certificates (PEM) that sign those of clients; clients are asked for theirs then, and
	// helo.client_cert is the subject of one that is good. Empty: none is asked for.
	ClientCA string `yaml:"client_ca"`
	// Submission is for users who hand in their mail, on port 587 or 465 (RFC 6409): TLS is required (not of clients on the
	// machine itself), AUTH is passed on to backend.submission, and MAIL needs it. Rules that read facts of dnsbl, spf,
	// greylist or dmarc, or that greylist, do not act here.
	Submission bool `yaml:"submission"`
	// ProxyFrom lists the networks whose connections start with a PROXY header (v1 or v2): load balancers. From
	// there a connection without one is refused; from elsewhere a header is.
	ProxyFrom []netip.Prefix `yaml:"proxy_from"`
	// XClientFrom lists the networks that may name another client with XCLIENT.
	XClientFrom []netip.Prefix `yaml:"xclient_from"`
}

// DefaultListen is port 25 on every address, without TLS.
func DefaultListen() []Listen { return []Listen{{Address: ":25"}} }

// Validate reports everything that is wrong without touching files or sockets.
func (l *Listen) Validate() error {
	var errs filters.KeyErrors
	if _, port, err := net.SplitHostPort(l.Address); err != nil || port == "" {
		errs.Add("address", "%q is not host:port, such as \":25\" or \"192.0.2.1:25\"", l.Address)
	}
	if l.Key != "" && l.Certificate == "" {
		errs.Add("key", "a key without a certificate: set certificate too")
	}
	for i, p := range l.Certificates {
		if p.Certificate == "" {
			errs.Add(fmt.Sprintf("certificates[%d].certificate", i), "the name of a file is missing")
		}
	}
	if len(l.pairs()) == 0 {
		if l.ImplicitTLS {
			errs.Add("implicit_tls", "needs a certificate")
		}
		if host, _, _ := net.SplitHostPort(l.Address); l.Submission && !isLoopback(host) {
			errs.Add("submission", "needs a certificate: passwords do not go over the network in the clear")
		}
		if l.ClientCA != "" {
			errs.Add("client_ca", "has a meaning only with a certificate of our own")
		}
	}
	return errs.OrNil()
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || host == "localhost"
}

// pairs is all certificates of the listener, with the names of their keys filled in.
func (l *Listen) pairs() []Certificate {
	var list []Certificate
	if l.Certificate != "" {
		list = append(list, Certificate{l.Certificate, l.Key})
	}
	list = append(list, l.Certificates...)
	for i := range list {
		if list[i].Key == "" {
			list[i].Key = list[i].Certificate
		}
	}
	return list
}

// tlsFiles is the names of all files that TLS needs.
func (l *Listen) tlsFiles() []string {
	var names []string
	for _, p := range l.pairs() {
		names = append(names, p.Certificate, p.Key)
	}
	if l.ClientCA != "" {
		names = append(names, l.ClientCA)
	}
	return names
}

// LineEndings is the key `line_endings`: normalize or strict.
type LineEndings = wire.LineEndings

// Limits is the section `limits:`. What a client meets when it exceeds one is said with each.
type Limits struct {
	// Connections is how many clients may be connected at once, all listeners together (then 421 4.3.2).
	Connections int `yaml:"connections"`
	// ConnectionsPerClient is how many of them may come from one client network, IPv4 /32 or IPv6 /64 (then 421
	// 4.7.0). Trusted networks are exempt. 0: no limit.
	ConnectionsPerClient int `yaml:"connections_per_client"`
	// Commands is how many commands a session may give (then 421 4.7.0).
	Commands int `yaml:"commands"`
	// Errors is how many of them may be wrong: unknown, malformed, or out of sequence (then 421 4.7.0).
	Errors int `yaml:"errors"`
	// Abandoned is how many mail transactions in a row may end without a message, given up by the client or refused before it
	// came (then 421 4.7.0): each of them keeps filters and backend busy. Trusted networks are exempt. 0: no limit.
	Abandoned int `yaml:"abandoned"`
	// AuthFailures is how many AUTH commands from one client network may fail in an hour (then 421 4.7.0). 0: no limit.
	AuthFailures int `yaml:"auth_failures"`
	// Recipients is how many recipients a message may have (then 452 4.5.3). RFC 5321, 4.5.3.1.8 wants 100 at least.
	Recipients int `yaml:"recipients"`
	// MessageSize is the size of the largest message, in bytes (then 552 5.3.4). The backend's own limit counts too.
	MessageSize filters.Size `yaml:"message_size"`
	// HeaderSize is the size of the largest header block, in bytes (then 552 5.3.4); 256KiB at most.
	HeaderSize filters.Size `yaml:"header_size"`
	// LineLength is the length of the longest command line, in bytes with CRLF (then 500 5.5.2).
	LineLength int `yaml:"line_length"`
	// Hops is how many Received fields a message may have before it is taken for a loop (then 554 5.4.6).
	Hops int `yaml:"hops"`
	// MessageMemory is how much of a message is held in memory at most; the rest goes to an unlinked file.
	MessageMemory filters.Size `yaml:"message_memory"`
	// Memory is how much of all messages together is held in memory; those that come when it is used up go to files.
	Memory filters.Size `yaml:"memory"`
	// CommandTimeout is how long a client may take for its next command (then 421 4.4.2). RFC 5321, 4.5.3.2.7 wants
	// 5 minutes at least.
	CommandTimeout filters.Duration `yaml:"command_timeout"`
	// DataTimeout is how long a client may stop in the middle of a message (then 421 4.4.2).
	DataTimeout filters.Duration `yaml:"data_timeout"`
	// MessageTimeout is how long a message may take to arrive (then 421 4.4.2).
	MessageTimeout filters.Duration `yaml:"message_timeout"`
	// MinDataRate is how many bytes a second of a message have to come, on average over 30 seconds (or half of data_timeout,
	// if that is shorter), while three quarters of connections or memory are used up (then 421 4.4.2). 0: no limit.
	MinDataRate filters.Size `yaml:"min_data_rate"`
	// HandshakeTimeout is how long a client may take for the TLS handshake, or a peer for its PROXY header.
	HandshakeTimeout filters.Duration `yaml:"handshake_timeout"`
	// GreetingBudget is how long filters may hold back the reply to a connection and to EHLO.
	GreetingBudget filters.Duration `yaml:"greeting_budget"`
	// EnvelopeBudget is how long filters and backend may hold back the reply to MAIL and RCPT.
	EnvelopeBudget filters.Duration `yaml:"envelope_budget"`
	// MessageBudget is how long filters may hold back the reply to the end of the message.
	MessageBudget filters.Duration `yaml:"message_budget"`
}

// DefaultLimits are good for a machine with 1 GiB of memory.
func DefaultLimits() Limits {
	return Limits{
		Connections:          10_000,
		ConnectionsPerClient: 50,
		Commands:             10_000,
		Errors:               20,
		Abandoned:            100,
		AuthFailures:         20,
		Recipients:           1000,
		MessageSize:          50 << 20,
		HeaderSize:           filters.MaxHeader,
		LineLength:           2048,
		Hops:                 100,
		MessageMemory:        2 << 20,
		Memory:               256 << 20,
		CommandTimeout:       filters.Duration(5 * time.Minute),
		DataTimeout:          filters.Duration(3 * time.Minute),
		MessageTimeout:       filters.Duration(time.Hour),
		MinDataRate:          100,
		HandshakeTimeout:     filters.Duration(30 * time.Second),
		GreetingBudget:       filters.Duration(10 * time.Second),
		EnvelopeBudget:       filters.Duration(20 * time.Second),
		MessageBudget:        filters.Duration(45 * time.Second),
	}
}

// Validate reports every limit that the proxy could not work with.
func (l *Limits) Validate() error {
	var errs filters.KeyErrors
	between := func(key string, value, low, high int64) {
		if value < low || value > high {
			errs.Add(key, "%d is not between %d and %d", value, low, high)
		}
	}
	between("connections", int64(l.Connections), 1, 1_000_000)
	between("connections_per_client", int64(l.ConnectionsPerClient), 0, 1_000_000)
	between("commands", int64(l.Commands), 10, 10_000_000)
	between("errors", int64(l.Errors), 1, 1_000_000)
	between("abandoned", int64(l.Abandoned), 0, 1_000_000)
	between("auth_failures", int64(l.AuthFailures), 0, 1_000_000)
	between("recipients", int64(l.Recipients), 1, 100_000)
	between("message_size", int64(l.MessageSize), 64<<10, 1<<40) // RFC 5321, 4.5.3.1.7: 64K octets at least
	between("header_size", int64(l.HeaderSize), 4<<10, filters.MaxHeader)
	between("line_length", int64(l.LineLength), 512, maxLine) // RFC 5321, 4.5.3.1.4
	between("hops", int64(l.Hops), 10, 100_000)
	between("message_memory", int64(l.MessageMemory), 4<<10, 1<<30)
	between("memory", int64(l.Memory), int64(l.MessageMemory), 1<<40)
	between("min_data_rate", int64(l.MinDataRate), 0, 1<<30)
	positive := func(key string, d filters.Duration) {
		if d <= 0 {
			errs.Add(key, "must be longer than nothing, such as 30s")
		}
	}
	positive("command_timeout", l.CommandTimeout)
	positive("data_timeout", l.DataTimeout)
	positive("message_timeout", l.MessageTimeout)
	positive("handshake_timeout", l.HandshakeTimeout)
	positive("greeting_budget", l.GreetingBudget)
	positive("envelope_budget", l.EnvelopeBudget)
	positive("message_budget", l.MessageBudget)
	return errs.OrNil()
}

// networks is a short list of networks.
type networks []netip.Prefix

func (n networks) contain(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range n {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
