package policy

import (
	"reflect"
	"strings"

	"gatepost/filters"
	"gatepost/rules"
)

// SignInFacts are known after EHLO or HELO, and anew after AUTH.
type SignInFacts struct {
	// The client has signed in with AUTH, on a listener with `submission`; helo.user says as whom.
	Authenticated bool `fact:"authenticated"`
}

// ProtectionFacts are known after EHLO or HELO, and anew after STARTTLS and AUTH. All plain connections share one.
type ProtectionFacts struct {
	// The connection is protected by TLS.
	TLS bool `fact:"tls"`
	// Version of TLS, such as "TLSv1.3"; empty on a plain connection.
	TLSVersion string `fact:"tls_version"`
	// Subject of the client's verified certificate, or empty.
	ClientCert string `fact:"client_cert"`
	// The authenticated user, or empty.
	User string `fact:"user"`
}

// MailFacts are known after MAIL.
type MailFacts struct {
	// The reverse-path without angle brackets, and without quotes that it does not need; empty for the null reverse-path.
	Address string `fact:"address"`
	// Its domain in lower case.
	Domain string `fact:"domain"`
	// What is before its last "@".
	Local string `fact:"local"`
	// The reverse-path is null (`MAIL FROM:<>`), as that of bounces is.
	Null bool `fact:"null"`
	// The size in bytes that the client declared by SIZE=; absent if it did not.
	Size *int `fact:"size"`

	size int
}

// RcptFacts are known for one recipient after its RCPT.
type RcptFacts struct {
	// The forward-path without angle brackets and source route, and without quotes that it does not need.
	Address string `fact:"address"`
	// Its domain in lower case; empty for a bare `postmaster`.
	Domain string `fact:"domain"`
	// What is before its last "@".
	Local string `fact:"local"`
	// How many recipients of the transaction were accepted up to now, this one included.
	Count int `fact:"count"`
}

// MessageFacts are known when the message is complete.
type MessageFacts struct {
	// The size of the message in bytes, without dot-stuffing; absent where nothing reads the body and the front end has
	// left it out.
	Size *int `fact:"size"`
	// The value of the first header field of a name, unfolded: header("Subject").
	Header rules.HeaderSource `fact:"header"`

	size int
}

// The groups that the gate itself fills in. The filters' groups follow.
const (
	clientGroup = iota
	signInGroup
	heloGroup
	protectionGroup
	mailGroup
	rcptGroup
	messageGroup
	builtinGroups
)

// greetingGroups is how many of them are known by EHLO.
const greetingGroups = 4

func builtins() []rules.Group {
	return []rules.Group{
		clientGroup:     {Name: "client", Type: reflect.TypeFor[filters.Client](), Stage: int(filters.AtConnect), Given: true},
		signInGroup:     {Name: "client", Type: reflect.TypeFor[SignInFacts](), Stage: int(filters.AtHelo), Given: true},
		heloGroup:       {Name: "helo", Type: reflect.TypeFor[filters.Greeting](), Stage: int(filters.AtHelo), Given: true},
		protectionGroup: {Name: "helo", Type: reflect.TypeFor[ProtectionFacts](), Stage: int(filters.AtHelo), Given: true},
		mailGroup:       {Name: "mail", Type: reflect.TypeFor[MailFacts](), Stage: int(filters.AtMail), Given: true},
		rcptGroup:       {Name: "rcpt", Type: reflect.TypeFor[RcptFacts](), Stage: int(filters.AtRcpt), Given: true},
		messageGroup:    {Name: "message", Type: reflect.TypeFor[MessageFacts](), Stage: int(filters.AtMessage), Given: true},
	}
}

// signedIn and notSignedIn are shared, never written.
var signedIn, notSignedIn = &SignInFacts{Authenticated: true}, &SignInFacts{}

func signInFacts(h *filters.Greeting) *SignInFacts {
	if h.AuthUser != "" {
		return signedIn
	}
	return notSignedIn
}

// unprotected is shared, never written.
var unprotected = &ProtectionFacts{}

func protectionFacts(h *filters.Greeting) *ProtectionFacts {
	if h.TLS == nil && h.AuthUser == "" {
		return unprotected
	}
	f := &ProtectionFacts{User: h.AuthUser}
	if h.TLS != nil {
		f.TLS, f.TLSVersion, f.ClientCert = true, h.TLS.Version, h.TLS.PeerSubject
	}
	return f
}

func (f *MailFacts) fill(e *filters.Envelope) {
	f.Address, f.Null = plainAddress(e.ReversePath), e.ReversePath == ""
	f.Local, f.Domain = filters.SplitAddress(f.Address)
	if e.Size > 0 {
		f.size = int(e.Size)
		f.Size = &f.size
	}
}

func (f *RcptFacts) fill(r *filters.Recipient, count int) {
	f.Address, f.Count = plainAddress(r.ForwardPath), count
	f.Local, f.Domain = filters.SplitAddress(f.Address)
}

// RcptFactsOf are those of a forward-path; count is how many recipients were accepted before it, and this one.
func RcptFactsOf(forwardPath string, count int) *RcptFacts {
	f := new(RcptFacts)
	f.fill(&filters.Recipient{ForwardPath: forwardPath}, count)
	return f
}

// maxHeaderValue bounds the bytes of a field that rules see and records keep.
const maxHeaderValue = 4096

// headerFields holds the first value of each field that a rule reads. It does not refer to the message, which is gone
// when the record is written.
type headerFields struct{ names, values []string }

func collectFields(h *filters.Header, names []string) *headerFields {
	f := &headerFields{}
	for _, name := range names {
		if values := h.Values(name); len(values) > 0 {
			f.names = append(f.names, name)
			f.values = append(f.values, strings.Clone(cut(values[0], maxHeaderValue)))
		}
	}
	return f
}

// Header implements rules.HeaderSource.
func (f *headerFields) Header(name string) (string, bool) {
	for i, n := range f.names {
		if strings.EqualFold(n, name) {
			return f.values[i], true
		}
	}
	return "", false
}

// readable shows facts to filters. It is a pointer and nothing else, so that an interface holds it without an allocation.
type readable struct{ facts *rules.Facts }

var _ filters.Facts = readable{}

func (r readable) Text(name string) (string, bool)    { return read[string](r, name, rules.Text) }
func (r readable) List(name string) ([]string, bool)  { return read[[]string](r, name, rules.List) }
func (r readable) Bool(name string) (value, ok bool)  { return read[bool](r, name, rules.Bool) }
func (r readable) Number(name string) (float64, bool) { return read[float64](r, name, rules.Number) }

// Changes finds the group of that filter that is an Editor.
func (r readable) Changes(filter string) *filters.Changes {
	for i, group := range r.facts.Schema().Groups() {
		if group.Name == filter {
			if editor, ok := r.facts.Group(i).(filters.Editor); ok {
				return editor.Changes()
			}
		}
	}
	return nil
}

// read panics on a name that does not exist or is of another kind: a mistake in a filter, which its first test finds.
func read[T any](r readable, name string, kind rules.Kind) (value T, ok bool) {
	switch fact, exists := r.facts.Schema().Fact(name); {
	case !exists:
		panic("policy: there is no fact " + name)
	case fact.Kind != kind:
		panic("policy: the fact " + name + " is of another type")
	}
	if v, known := r.facts.Lookup(name); known {
		value, ok = v.(T)
	}
	return value, ok
}
