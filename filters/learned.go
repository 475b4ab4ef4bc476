package filters

import (
	"context"
	"time"
)

// Learner is a filter that learns from mail. Operators see and correct what it has learned: each of its memories has a
// command (`gatepost NAME list|show|forget`), a tab of the admin page Learned, and a place in the API (/api/learned/NAME).
type Learner interface{ Memories() []Memory }

// Memory is one kind of thing that a filter has learned. It is safe for concurrent use.
type Memory interface {
	Kind() MemoryKind
	// List calls yield for everything that the query is about, until it returns false. The empty query is about all. An
	// error says what a query may be.
	List(ctx context.Context, query string, yield func(Learned) bool) error
	// Forget forgets everything that the query is about and returns how much that was. The empty query is an error.
	Forget(ctx context.Context, query string) (int, error)
	// Stats counts since the start of the process. It does not wait.
	Stats() MemoryStats
}

// MemoryKind describes a memory to operators.
type MemoryKind struct {
	Name    string   `json:"name"`    // lower case, a command: "known"
	Title   string   `json:"title"`   // of its tab: "Known senders"
	Summary string   `json:"summary"` // a sentence or two: what it is and what it is good for
	What    string   `json:"what"`    // what an entry is about, as the head of a column: "Sender"
	Columns []string `json:"columns"` // heads of the columns of its own, lower case; perhaps none
	Queries string   `json:"queries"` // what a query may be: "an address or a domain"
}

// Learned is one thing that was learned. Texts may be of strangers' making.
type Learned struct {
	What    string    `json:"what"`
	Values  []string  `json:"values"` // one for each of the kind's columns
	Count   uint64    `json:"count"`  // how often it was seen
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Expires time.Time `json:"expires"`
}

// MemoryStats are counts since the start of the process.
type MemoryStats struct {
	Noted   int64 // things seen that were worth noting
	Written int64 // marks given to the store: several notes of one thing may be one
	Dropped int64 // notes lost, as there was no room or the store did not take them
	Refused int64 // things not learned, to keep a bound
	Pending int64 // things that wait to be written, now
}
