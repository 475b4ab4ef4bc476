package filters

import (
	"net/netip"
	"strings"
	"time"
)

// Session describes a connection from the moment it was accepted. It is never written after it is published. There is one
// for every waiting client: 112 bytes, where with both ends of the connection in it they were 160.
type Session struct {
	ID       string          // names the session in replies, logs and the journal
	Client   netip.AddrPort  // the SMTP client: a PROXY header or XCLIENT counts as if it had connected itself
	Through  *netip.AddrPort // the other end of the TCP connection, if that is a proxy in front; else nil
	To       *netip.AddrPort // the address that the client connected to, shared with other sessions; nil: not known
	Name     string          // the client's verified name where a trusted peer's XCLIENT told it, else empty
	Accepted time.Time
	Trusted  bool // the client is in one of the networks under `trusted:`
	// Submission tells that users hand in their mail here (RFC 6409): what is known about mail servers says nothing
	// about them.
	Submission bool
	// AskedByMTA tells that an MTA asks about the client, as a milter or as a policy server: it greets the client, and says
	// itself whom it relays for.
	AskedByMTA bool
}

// Peer is the other end of the TCP connection; equals Client without a proxy in front.
func (s *Session) Peer() netip.AddrPort {
	if s.Through == nil {
		return s.Client
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

// Greeting describes EHLO or HELO. It is never written after it is published.
type Greeting struct {
	Name     string // the argument, as sent; a domain or an address literal, if the client keeps to the standard
	Extended bool   // EHLO rather than HELO
	Unsure   bool   // Extended is not known: not every MTA tells a milter
	TLS      *TLS   // nil on a plain connection
	AuthUser string // the authenticated user, or empty
}

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
