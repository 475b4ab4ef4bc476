package filters

import (
	"net/netip"
	"strings"
	"time"
)

// Session describes a connection from the moment it was accepted. It is never written after it is published. There is one
// for every waiting client: 96 bytes, where with both ends of the connection in it they were 144.
type Session struct {
	ID string // names the session in replies, logs and the journal
	Client
	Through  *netip.AddrPort // the other end of the TCP connection, if that is a proxy in front; else nil
	To       *netip.AddrPort // the address that the client connected to, shared with other sessions; nil: not known
	Accepted time.Time
}

// Client is the SMTP client of a session. What rules call client.ip, client.port and so on is read here: a copy for them
// would be there once for each client that waits.
type Client struct {
	// Address of the SMTP client; a PROXY header or XCLIENT from a listed peer counts as if it had connected itself.
	IP netip.Addr `fact:"ip"`
	// The client's verified host name, where a listed peer's XCLIENT told it; absent otherwise.
	Name *string `fact:"name"`
	// TCP port of the client.
	Port int32 `fact:"port"`
	// The client is in one of the networks under `trusted:`.
	Trusted bool `fact:"trusted"`
	// Users hand in their mail here: a listener with `submission`, or an MTA that calls Gatepost as a milter and says so.
	Submission bool `fact:"submission"`
	// AskedByMTA tells that an MTA asks about the client, as a milter or as a policy server: it greets the client, and says
	// itself whom it relays for.
	AskedByMTA bool
}

// ClientAt is a client of whom no more is known. An IPv4 address is one, however it is written.
func ClientAt(a netip.AddrPort) Client { return Client{IP: a.Addr().Unmap(), Port: int32(a.Port())} }

// AddrPort is where the client is.
func (c *Client) AddrPort() netip.AddrPort { return netip.AddrPortFrom(c.IP, uint16(c.Port)) }

// VerifiedName is Name, or empty.
func (c *Client) VerifiedName() string {
	if c.Name == nil {
		return ""
	}
	return *c.Name
}

// SetVerifiedName sets Name, unless it is empty.
func (c *Client) SetVerifiedName(name string) {
	if name != "" {
		c.Name = &name
	}
}

// Peer is the other end of the TCP connection; equals Client without a proxy in front.
func (s *Session) Peer() netip.AddrPort {
	if s.Through == nil {
		return s.AddrPort()
	}
	return *s.Through
}

// Local is the address that the client connected to; not valid where that is not known.
func (s *Session) Local() netip.AddrPort {
	if s.To == nil {
		return netip.AddrPort{}
	}
	return *s.To
}

// Greeting describes EHLO or HELO. It is never written after it is published. What rules call helo.name and helo.extended
// is read here, as in [Client]. The name is a domain or an address literal, if the client keeps to the standard.
type Greeting struct {
	// The name that the client gave, as sent.
	Name string `fact:"name"`
	// EHLO rather than HELO; absent where an MTA calls Gatepost as a milter and does not tell.
	Extended *bool  `fact:"extended"`
	TLS      *TLS   // nil on a plain connection
	AuthUser string // the authenticated user, or empty
}

var no, yes = false, true // shared, never written

// Known is what a fact that may be absent is known to be. Equal ones are the same pointer.
func Known(value bool) *bool {
	if value {
		return &yes
	}
	return &no
}

// SaidEHLO tells whether the client is known to have said EHLO.
func (g *Greeting) SaidEHLO() bool { return g.Extended != nil && *g.Extended }

// TLS describes the protection of a session.
type TLS struct {
	Version     string // "TLSv1.3"
	Cipher      string
	ServerName  string // SNI, or empty
	PeerSubject string // subject of a verified client certificate, or empty
}

// Param is one ESMTP parameter of MAIL or RCPT, exactly as it was sent. HasValue tells "KEY=" from "KEY".
type Param struct {
	Key, Value string
	HasValue   bool
}

// Envelope is a mail transaction's MAIL command. It is never written after it is published.
type Envelope struct {
	ID          string // names the transaction in replies, logs and the journal
	ReversePath string // the address without angle brackets; empty for the null reverse-path <>
	Params      []Param
	Size        int64 // declared by SIZE=, or 0
	UTF8        bool  // SMTPUTF8 was given (RFC 6531)
	Started     time.Time
}

// Recipient is one RCPT command. It is never written after it is published.
type Recipient struct {
	ForwardPath string // the address without angle brackets and source route
	Params      []Param
}

// View is what a filter may look at: all that the dialogue has told so far. A field is nil before its stage.
type View struct {
	Session    *Session
	Greeting   *Greeting
	Envelope   *Envelope
	Recipient  *Recipient   // set for observations at [AtRcpt] only
	Recipients []*Recipient // those accepted so far; set from [AtData] on
	Message    *Message     // set for observations at [Message] only
	Facts      Facts        // results of other filters: those named by [After], and whatever else is in
}

// Facts reads other filters' facts by the names that rules use ("spf.result"). ok is false where the fact is absent:
// its filter is off, failed, or has not run. A name that does not exist, or is of another type, panics: that is a
// mistake in the filter, found by its first test.
type Facts interface {
	Text(name string) (value string, ok bool)
	List(name string) (value []string, ok bool)
	Bool(name string) (value, ok bool)
	Number(name string) (value float64, ok bool)
	// Changes returns what a filter that is an [Editor] wants changed; nil where it wants nothing or is not in.
	Changes(filter string) *Changes
}

// SplitAddress cuts an address at its last "@". The domain comes back in lower case; both are empty for the null
// reverse-path, and the domain is empty where there is none ("postmaster").
func SplitAddress(address string) (local, domain string) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address, ""
	}
	return address[:at], strings.ToLower(strings.TrimSuffix(address[at+1:], "."))
}
