package admin

import (
	"context"
	"errors"
	"time"

	"gatepost/filters"
	"gatepost/filters/exception"
	"gatepost/filters/greylist"
	"gatepost/policy/replay"
	"gatepost/proxy/journal"
)

// House is the running proxy, as the pages and the API see and change it. It is safe for concurrent use. Its methods
// return soon after their context ends. Errors are shown to the operator: they say what is wrong and what to do.
type House interface {
	// Now tells how the proxy is.
	Now() Now
	// Rules are those in force, in order of evaluation.
	Rules() []Rule
	// RulesText is the section `rules:` in force, as a file.
	RulesText() (string, error)
	// Lists are the list files that rules read, as they were loaded.
	Lists() []List
	// Configuration is what is in force as a file, with defaults and explanations, without secrets.
	Configuration() (string, error)

	// Search looks into the journal, the newest first.
	Search(ctx context.Context, s Search) (*Found, error)
	// Why tells the stories of the entries that text is about: it has an id in it, or is a mail address or an IP address.
	// The newest come first, at most limit; none is no error.
	Why(ctx context.Context, text string, limit int) ([]Story, error)
	// Try checks a changed configuration, or a section `rules:` alone, and runs what was recorded again under it. It
	// changes nothing. When ctx ends, the report is about what was looked at until then.
	Try(ctx context.Context, text []byte, since time.Duration) (*Trial, error)

	// Observe runs what was recorded again with each rule enforced that only observes. When ctx ends, it is about what was
	// looked at until then.
	Observe(ctx context.Context, since time.Duration) ([]*Observed, error)
	// Recommend looks for settings that would fit what was recorded better. When ctx ends, it is about what was looked at
	// until then.
	Recommend(ctx context.Context, since time.Duration) (*Advice, error)

	// Greylist calls yield for the marks that a query is about until it returns false; see greylist.Filter.List.
	Greylist(ctx context.Context, query string, yield func(greylist.Entry) bool) error
	// PassGreylist lets what the query names pass, and returns the key of its mark.
	PassGreylist(ctx context.Context, query string) (key string, err error)
	// ForgetGreylist forgets the marks that the query is about, and returns how many.
	ForgetGreylist(ctx context.Context, query string) (int, error)

	// Memories are what filters have learned from mail, by kind.
	Memories() []filters.MemoryKind
	// Learned calls yield for what a memory has that a query is about, until it returns false; see [filters.Memory].
	Learned(ctx context.Context, memory, query string, yield func(filters.Learned) bool) error
	// ForgetLearned forgets what the query is about, and returns how much that was.
	ForgetLearned(ctx context.Context, memory, query string) (int, error)

	// Exceptions are all that are in force, those that end first at the head.
	Exceptions(ctx context.Context) ([]*exception.Entry, error)
	// AddException makes one. unread tells that no rule in force reads it, so that it changes nothing.
	AddException(ctx context.Context, r exception.Request) (e *exception.Entry, unread bool, err error)
	// RemoveException ends some, and returns how many there were.
	RemoveException(ctx context.Context, r exception.Request) (int, error)

	// Quarantine is nil where there is none.
	Quarantine() Quarantine
}

// Quarantine is the messages that were kept instead of delivered.
type Quarantine interface {
	// List calls yield for every message, the newest first, until it returns false.
	List(ctx context.Context, yield func(QuarantinedMessage) bool) error
	// Show finds one, and the beginning of its header.
	Show(ctx context.Context, id string) (m QuarantinedMessage, header string, err error)
	// Release delivers one to the backend and removes it. What it returns is what the backend said.
	Release(ctx context.Context, id string) (reply string, err error)
	Delete(ctx context.Context, id string) error
}

// QuarantinedMessage is one of them. ID is that of its transaction.
type QuarantinedMessage struct {
	ID         string    `json:"id"`
	Time       time.Time `json:"time"`
	Expires    time.Time `json:"expires"`            // it is not removed before
	Expiring   bool      `json:"expiring,omitempty"` // but soon, and the log has told so
	Client     string    `json:"client"`
	From       string    `json:"from"`
	Recipients []string  `json:"recipients"` // some of those that wait for it
	Waiting    int       `json:"waiting"`    // how many do
	Subject    string    `json:"subject,omitempty"`
	Rule       string    `json:"rule,omitempty"`
	Size       int64     `json:"size"`
	Copy       bool      `json:"copy,omitempty"`    // the sender was told that it was refused
	Problem    string    `json:"problem,omitempty"` // why nothing is known of it
}

// ErrNotFound tells that there is no such thing.
var ErrNotFound = errors.New("there is no such thing here; it may have expired")

// Now is how the proxy is at a moment.
type Now struct {
	At       time.Time `json:"at"`
	Started  time.Time `json:"started"`
	NotReady []string  `json:"not_ready"` // why no mail can be taken; empty: it can
	Hints    []string  `json:"hints"`     // what to know although mail is taken
	Bypass   time.Time `json:"bypass,omitzero"`
	Sessions Sessions  `json:"sessions"`
	Backends []Backend `json:"backends"`
	Filters  []Filter  `json:"filters"`
}

// Sessions are those with clients. Total, TLS and Refused are counted since the start.
type Sessions struct {
	Open     int64           `json:"open"`
	Total    int64           `json:"total"`
	TLS      int64           `json:"tls"`
	Refused  int64           `json:"refused"`
	Networks []ClientNetwork `json:"networks"` // those with the most sessions now
	Oldest   []OpenSession   `json:"oldest"`   // those that began first, at most 50
}

// OpenSession is a session in progress.
type OpenSession struct {
	ID      string  `json:"id"`
	Client  string  `json:"client"`
	Name    string  `json:"name,omitempty"` // in EHLO
	User    string  `json:"user,omitempty"` // who has signed in
	TLS     bool    `json:"tls"`
	Age     float64 `json:"age_seconds"`
	Stage   string  `json:"stage"` // connect, greeting, commands, helo, mail, rcpt, data, judging, backend
	AtStage float64 `json:"at_stage_seconds"`
	Bytes   int64   `json:"bytes"` // of the message that is arriving
	Waits   string  `json:"waits_for,omitempty"`
}

// ClientNetwork is where sessions come from: an IPv4 address, or an IPv6 /64.
type ClientNetwork struct {
	Network  string `json:"network"`
	Sessions int    `json:"sessions"`
}

// Backend is one of the mail servers behind.
type Backend struct {
	Use     string `json:"use"` // mail or submission
	Address string `json:"address"`
	Up      bool   `json:"up"`
	Usable  bool   `json:"usable"` // as far as the relay check is concerned
	Open    int    `json:"open"`
	Limit   int    `json:"limit"`
	Waiting int    `json:"waiting"`
	Failed  int64  `json:"failed"`
	Lost    int64  `json:"lost"`
}

// Filter is how a filter has done, since the start and of late.
type Filter struct {
	Name string `json:"name"`
	Answers
	Late    Answers  `json:"late"` // in the last ten minutes
	Circuit *Circuit `json:"circuit,omitempty"`
}

// Answers are what a filter came to in some time, and how long it took.
type Answers struct {
	OK           int64   `json:"ok"`
	Timeout      int64   `json:"timeout"`
	Error        int64   `json:"error"`
	Unfinished   int64   `json:"unfinished"` // no rule needed the answer
	MeanMillis   float64 `json:"mean_ms"`
	MedianMillis float64 `json:"median_ms"` // half took at most this; 0: not known, as below
	P95Millis    float64 `json:"p95_ms"`
	P99Millis    float64 `json:"p99_ms"`
}

// Asked is how often an answer was waited for.
func (a Answers) Asked() int64 { return a.OK + a.Timeout + a.Error }

// Circuit is how it stands with a filter that does not ask somebody who fails again and again.
type Circuit struct {
	Open     bool      `json:"open"` // it does not ask now
	Failures int       `json:"failures"`
	Until    time.Time `json:"until,omitzero"` // when it tries again
}

// Rule is one of the rules in force.
type Rule struct {
	Name     string    `json:"name"`
	Place    string    `json:"place"`
	Stage    string    `json:"stage"`
	Action   string    `json:"action"`
	Mode     string    `json:"mode"`
	When     string    `json:"when"`
	Enforced int64     `json:"enforced"` // matches since the start
	Observed int64     `json:"observed"`
	Outcomes Tally     `json:"outcomes"` // of the transactions in which it matched
	Last     time.Time `json:"last,omitzero"`
}

// List is a list file.
type List struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	Entries int      `json:"entries"`
	Bytes   int      `json:"bytes"`
	Missing bool     `json:"missing,omitempty"`
	Rules   []string `json:"rules"`
}

// Search is what is looked for in the journal.
type Search struct {
	Where        string // an expression of the rule language; empty: everything
	Since, Until string // a time, or a span such as 2d; empty: no bound
	Limit        int
}

// Found is what a search came to.
type Found struct {
	Entries []*journal.Entry
	More    bool      // there may be older ones
	Stopped time.Time // time was up when it had come back to here; zero: it was not
}

// Story is a decision explained.
type Story struct {
	Entry    *journal.Entry
	Chapters []Chapter
}

// Chapter is a part of a story.
type Chapter struct {
	Title string `json:"title"`
	Lines []Line `json:"lines"`
}

// Line is a line of a chapter.
type Line struct {
	Indent int    `json:"indent"`
	Text   string `json:"text"`
}

// Trial is what became of a changed configuration.
type Trial struct {
	Problems []string       `json:"problems"` // mistakes with place and excerpt; with one, nothing was tried
	Warnings []string       `json:"warnings"`
	Report   *replay.Report `json:"report,omitempty"`
	Stopped  bool           `json:"stopped"` // time was up before everything was looked at
	Took     time.Duration  `json:"-"`
}
