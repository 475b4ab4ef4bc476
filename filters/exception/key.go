package exception

import (
	"strings"
	"time"
)

// space is where the store keeps exceptions.
const space = "exception"

// Action is what an exception does.
type Action string

const (
	Allow Action = "allow"
	Block Action = "block"
)

// state is the action as facts name it.
func (a Action) state() string {
	if a == Allow {
		return "allowed"
	}
	return "blocked"
}

// Kind is what an exception is about.
type Kind string

const (
	Client    Kind = "client"    // an address or a network
	Sender    Kind = "sender"    // an address, a domain, or ".domain" with everything below it
	Recipient Kind = "recipient" // the same
)

// Kinds are all there are, as commands name them.
var Kinds = []Kind{Client, Sender, Recipient}

// Entry is an exception.
type Entry struct {
	Action  Action    `json:"action"`
	Kind    Kind      `json:"kind"`
	Value   string    `json:"value"`
	By      string    `json:"by"`            // who made it
	Why     string    `json:"why,omitempty"` // in his words
	Added   time.Time `json:"added"`
	Expires time.Time `json:"expires"`
}

// why is the reason as a fact.
func (e *Entry) why() *string {
	if e.Why == "" {
		return nil
	}
	return &e.Why
}

// A mark has no room for text, so that its key says everything: "allow", kind, value, who, why, with a tab between two. A
// tab stands in none of them. The store keeps keys of this length as they are.
const maxKey = 440

// separator stands between the parts of a key.
const separator = "\t"

func (e *Entry) key() string {
	return strings.Join([]string{string(e.Action), string(e.Kind), e.Value, e.By, e.Why}, separator)
}

// parseKey reads what key wrote; false for marks of another making.
func parseKey(key string) (*Entry, bool) {
	parts := strings.Split(key, separator)
	if len(parts) != 5 {
		return nil, false
	}
	e := &Entry{Action: Action(parts[0]), Kind: Kind(parts[1]), Value: parts[2], By: parts[3], Why: parts[4]}
	return e, (e.Action == Allow || e.Action == Block) && (e.Kind == Client || e.Kind == Sender || e.Kind == Recipient)
}
