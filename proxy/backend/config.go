package backend

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
)

// Config is the section `backend:`. A lone value instead of a mapping is the address.
type Config struct {
	// The MTA behind the proxy: "host:port" or "unix:/path". A list is tried in order: the first that works is used.
	Address []string `yaml:"address"`
	// The MTA's address for users who hand in their mail, "host:port" or "unix:/path" or a list, behind listeners with
	// submission: on. Empty: address.
	Submission []string `yaml:"submission"`
	// How the backend learns the client's address: xclient (Postfix), proxy-v1 or proxy-v2 (PROXY protocol: Postfix, Exim,
	// OpenSMTPD), transparent (connect from the client's address; Linux, needs CAP_NET_RAW and routing), or none.
	// none requires domains, since the backend then takes every client for the proxy's machine.
	ClientAddress ClientAddress `yaml:"client_address" values:"xclient proxy-v1 proxy-v2 transparent none"`
	// How long a backend may be kept waiting for the rest of a message before it is reset and released; it is dialled
	// again when the message is complete. While nearly all connections are in use it is a quarter of a second.
	Hold filters.Duration `yaml:"hold"`
	// Connections to each backend at most, idle ones included; one more may be used for probes. Sessions above that
	// wait. Keep it below the backend's own limit (Postfix: default_process_limit, Exim: smtp_accept_max).
	Connections int `yaml:"connections"`
	// Time for a connection to be established, and again for its TLS handshake.
	ConnectTimeout filters.Duration `yaml:"connect_timeout"`
	// Time for the answer to a command. The client's own time budget is usually shorter and then decides.
	CommandTimeout filters.Duration `yaml:"command_timeout"`
	// Time for the backend to take a block of message data (64 KiB).
	BlockTimeout filters.Duration `yaml:"block_timeout"`
	// Time for the answer to the end of a message. Shorter than 10m invites duplicates.
	FinalTimeout filters.Duration `yaml:"final_timeout"`
	// Ask each backend, in a stranger's name, to relay to a foreign domain, and answer RCPT with 451 until one has
	// refused. off makes an open relay possible.
	RelayCheck bool `yaml:"relay_check"`
	// Keep connections for the next client where the backend allows it: with xclient if it accepts XCLIENT again (Postfix:
	// smtpd_authorized_xclient_hosts=static:all on a port that only the proxy can reach), and with none.
	Reuse bool `yaml:"reuse"`
	// Send XCLIENT, EHLO, MAIL and the first RCPT in one segment. This saves up to four round trips with each client, and one
	// with each message. MAIL is answered with 250 at once then, and what the backend has against it is the answer to each RCPT;
	// one without CHUNKING hears DATA with the message before, and is left if the next one is not to go there.
	// It works only with backends that allow it: Postfix with smtpd_forbid_unauth_pipelining=no (the default before 3.9) and
	// without reject_unauth_pipelining. Postfix logs "improper command pipelining" for each client then.
	Eager bool `yaml:"eager"`
	// TLS towards the backend by STARTTLS: auto (none on loopback and UNIX sockets, else opportunistic), none,
	// opportunistic (when offered and it works; the certificate is not looked at), required (always, the certificate is
	// not looked at), verified (always, with a valid certificate for the host in address).
	TLS TLSMode `yaml:"tls" values:"auto none opportunistic required verified"`
	// File with the certificates (PEM) that tls: verified trusts. Empty: those of the system.
	CA string `yaml:"ca"`
	// Keywords of the backend that are used and offered to clients. STARTTLS, AUTH and XCLIENT are not a matter of this
	// list. Leave out what a backend offers but does badly. Off by default, since they make the backend work for, or talk
	// to, strangers: VRFY, EXPN, ETRN, HELP. Passed on as they are when named: DELIVERBY, FUTURERELEASE, MT-PRIORITY, MTRK,
	// NO-SOLICITING, RRVS, SUBMITTER, XVERP, and private ones (X…) that only add a parameter of their own name to MAIL or
	// RCPT. REQUIRETLS is offered only on TLS connections, and with tls: verified.
	Extensions []string `yaml:"extensions"`
}

// ClientAddress says how the backend learns the client's address.
type ClientAddress string

const (
	XClient     ClientAddress = "xclient"
	ProxyV1     ClientAddress = "proxy-v1"
	ProxyV2     ClientAddress = "proxy-v2"
	Transparent ClientAddress = "transparent"
	NoAddress   ClientAddress = "none"
)

// TLSMode says what is asked of the connection to the backend.
type TLSMode string

const (
	TLSAuto          TLSMode = "auto"
	TLSNone          TLSMode = "none"
	TLSOpportunistic TLSMode = "opportunistic"
	TLSRequired      TLSMode = "required"
	TLSVerified      TLSMode = "verified"
)

// maxBackends bounds the list of addresses.
const maxBackends = 32

// knownExtensions are the keywords that Config.Extensions may name, besides those of passed.go. The last four make the
// backend work for, or talk to, strangers and are off by default.
var knownExtensions = []string{"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "BINARYMIME",
	"ENHANCEDSTATUSCODES", "LIMITS", "REQUIRETLS", "VRFY", "EXPN", "ETRN", "HELP"}

// onByDefault is how many of them Default names.
const onByDefault = 10

// Default is the section when the file says nothing but the address. The time-outs are those of RFC 5321, 4.5.3.2.
func Default() Config {
	return Config{
		ClientAddress:  XClient,
		Hold:           filters.Duration(20 * time.Second),
		Connections:    100,
		ConnectTimeout: filters.Duration(5 * time.Second),
		CommandTimeout: filters.Duration(5 * time.Minute),
		BlockTimeout:   filters.Duration(3 * time.Minute),
		FinalTimeout:   filters.Duration(10 * time.Minute),
		RelayCheck:     true,
		Reuse:          true,
		TLS:            TLSAuto,
		Extensions:     slices.Clone(knownExtensions[:onByDefault]),
	}
}

// UnmarshalScalar takes `backend: host:port`.
func (c *Config) UnmarshalScalar(text string) error {
	c.Address = []string{text}
	return nil
}

// Validate answers with filters.KeyErrors. That `client_address: none` needs `domains:` is found by
// [Config.ValidateDomains], because it takes another section to know.
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	switch {
	case len(c.Address) == 0:
		errs.Add("address", "the address of the MTA behind the proxy is missing, such as 127.0.0.1:10025")
	case len(c.Address) > maxBackends:
		errs.Add("address", "%d addresses are more than %d", len(c.Address), maxBackends)
	}
	for i, address := range c.Address {
		key := "address" // a lone one may have been written without a list, or as the whole section
		if len(c.Address) > 1 {
			key = fmt.Sprintf("address[%d]", i)
		}
		c.validateAddress(&errs, key, address)
		if slices.Contains(c.Address[:i], address) {
			errs.Add(key, "%s is already in the list", address)
		}
	}
	oneOf(&errs, "client_address", c.ClientAddress, XClient, ProxyV1, ProxyV2, Transparent, NoAddress)
	oneOf(&errs, "tls", c.TLS, TLSAuto, TLSNone, TLSOpportunistic, TLSRequired, TLSVerified)
	if c.CA != "" && c.TLS != TLSVerified {
		errs.Add("ca", "has a meaning only with tls: verified")
	}
	if c.Connections < 1 || c.Connections > 100_000 {
		errs.Add("connections", "%d is not between 1 and 100000", c.Connections)
	}
	atLeast(&errs, "hold", c.Hold, time.Second)
	atLeast(&errs, "connect_timeout", c.ConnectTimeout, 100*time.Millisecond)
	atLeast(&errs, "command_timeout", c.CommandTimeout, time.Second)
	atLeast(&errs, "block_timeout", c.BlockTimeout, time.Second)
	atLeast(&errs, "final_timeout", c.FinalTimeout, time.Second)
	for i, address := range c.Submission {
		c.validateAddress(&errs, fmt.Sprintf("submission[%d]", i), address)
	}
	if len(c.Submission) > maxBackends {
		errs.Add("submission", "%d addresses are more than %d", len(c.Submission), maxBackends)
	}
	for i, name := range c.Extensions {
		if !slices.ContainsFunc(knownExtensions, func(k string) bool { return strings.EqualFold(k, name) }) && !passable(name) {
			errs.Add(fmt.Sprintf("extensions[%d]", i), "%q is none of %s, %s, and no keyword that could just be passed on", name,
				strings.Join(knownExtensions, ", "), strings.Join(slices.Sorted(maps.Keys(passed)), ", "))
		}
	}
	return errs.OrNil()
}

// ForSubmission is the configuration of the backends behind listeners with submission: connections that a user signs in
// on serve nobody else, and passwords do not leave the machine in the clear.
func (c *Config) ForSubmission() Config {
	s := *c
	if len(s.Submission) > 0 {
		s.Address = s.Submission
	}
	s.Reuse = false
	if s.TLS != TLSVerified && slices.ContainsFunc(s.Address, func(a string) bool { return !isLocal(a) }) {
		s.TLS = TLSRequired
	}
	return s
}

// ValidateDomains refuses `client_address: none` without `domains:`: the backend would relay for everybody.
func (c *Config) ValidateDomains(configured bool) error {
	var errs filters.KeyErrors
	if c.ClientAddress == NoAddress && !configured {
		errs.Add("client_address", "none requires domains: the backend takes every client for the proxy's own machine "+
			"and would relay anywhere; name the domains that you take mail for, or hand the address over")
	}
	return errs.OrNil()
}

func (c *Config) validateAddress(errs *filters.KeyErrors, key, address string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
			errs.Add(key, "%q: the path of a UNIX socket starts with /", address)
		}
		if c.ClientAddress == Transparent {
			errs.Add(key, "client_address: transparent needs a TCP address")
		}
		if c.TLS == TLSVerified {
			errs.Add(key, "tls: verified needs an address with a host name")
		}
		return
	}
	if strings.HasPrefix(strings.ToLower(address), "lmtp:") {
		errs.Add(key, "LMTP answers the end of a message once per recipient, which one SMTP reply cannot carry, and it "+
			"has no queue; name the SMTP port of an MTA")
		return
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || strings.ContainsAny(host, " \t\r\n/") {
		errs.Add(key, "%q is neither host:port nor unix:/path", address)
		return
	}
	switch n, err := strconv.ParseUint(port, 10, 16); {
	case err != nil || n == 0:
		errs.Add(key, "%q: the port is a number from 1 to 65535", address)
	case n == 24:
		errs.Add(key, "port 24 is LMTP, which answers the end of a message once per recipient: one SMTP reply cannot carry that")
	}
}

func oneOf[T ~string](errs *filters.KeyErrors, key string, value T, choices ...T) {
	if slices.Contains(choices, value) {
		return
	}
	names := make([]string, len(choices))
	for i, c := range choices {
		names[i] = string(c)
	}
	errs.Add(key, "%q is none of %s", string(value), strings.Join(names, ", "))
}

func atLeast(errs *filters.KeyErrors, key string, d filters.Duration, least time.Duration) {
	if time.Duration(d) < least {
		errs.Add(key, "%s is shorter than %s", d, filters.Duration(least))
	}
}

// isLocal tells addresses whose traffic never leaves the machine.
func isLocal(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
