package admin

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/filters/exception"
	"gatepost/filters/greylist"
	"gatepost/proxy/journal"
)

// Answers and requests of the API. Keys are added in later releases, and none changes its meaning.
type (
	nowAnswer struct {
		Now
		Hour series `json:"hour"`
		Day  series `json:"day"`
	}
	series struct {
		Seconds int       `json:"seconds"` // that a bar is for
		End     time.Time `json:"end"`     // of the last bar, which is not over yet
		Bars    []Tally   `json:"bars"`    // the oldest first
	}
	journalAnswer struct {
		Entries []journal.EntryJSON `json:"entries"`
		More    bool                `json:"more"`             // there are older ones
		Stopped time.Time           `json:"stopped,omitzero"` // time was up when it had come back to here
	}
	storyAnswer struct {
		Entry    journal.EntryJSON `json:"entry"`
		Chapters []Chapter         `json:"chapters"`
	}
	whyAnswer struct {
		Stories []storyAnswer `json:"stories"`
	}
	rulesAnswer struct {
		Rules []Rule `json:"rules"`
		Text  string `json:"text"` // the section rules:
	}
	greylistAnswer struct {
		Marks []greylist.Entry `json:"marks"`
		More  bool             `json:"more"`
	}
	queryRequest struct {
		Query string `json:"query"`
	}
	passAnswer struct {
		Key string `json:"key"`
	}
	countAnswer struct {
		Count int `json:"count"`
	}
	memoriesAnswer struct {
		Memories []filters.MemoryKind `json:"memories"`
	}
	learnedAnswer struct {
		Memory  filters.MemoryKind `json:"memory"`
		Entries []filters.Learned  `json:"entries"`
		More    bool               `json:"more"`
	}
	exceptionsAnswer struct {
		Exceptions []*exception.Entry `json:"exceptions"`
	}
	exceptionAnswer struct {
		Exception *exception.Entry `json:"exception"`
		Unread    bool             `json:"unread"` // no rule reads it: it changes nothing
	}
	exceptionRequest struct {
		Action exception.Action `json:"action"`
		Kind   exception.Kind   `json:"kind"` // empty: what the form of value tells
		Value  string           `json:"value"`
		For    span             `json:"for"`
		Why    string           `json:"why"`
	}
	listsAnswer struct {
		Lists []List `json:"lists"`
	}
	textAnswer struct {
		Text string `json:"text"`
	}
	quarantineAnswer struct {
		Messages []QuarantinedMessage `json:"messages"`
		More     bool                 `json:"more"`
	}
	messageAnswer struct {
		Message QuarantinedMessage `json:"message"`
		Header  string             `json:"header"` // its beginning
	}
	replyAnswer struct {
		Reply string `json:"reply"`
	}
)

var limitParameter = Parameter{Name: "limit", Summary: "how many, 1 to 1000; 100 if it is not given"}

// Operations lists all that the API does.
func Operations() []Operation {
	return []Operation{
		{"GET", "/api/now", "Sessions, backends, filters, and transactions over time.", nil, nil, nowAnswer{}, (*Server).apiNow},
		{"GET", "/api/journal", "Search the journal, the newest first.", []Parameter{
			{Name: "where", Summary: "a condition of the rule language"}, {Name: "since", Summary: "a time, or a span such as 2d"},
			{Name: "until", Summary: "the same, not included"}, limitParameter,
		}, nil, journalAnswer{}, (*Server).apiJournal},
		{"GET", "/api/journal/{id}", "One entry, with its story.", nil, nil, storyAnswer{}, (*Server).apiEntry},
		{"GET", "/api/why", "The stories of what a text is about, the newest first.", []Parameter{
			{"about", "an id, a mail address, an IP address, or any text with ids in it", true}, limitParameter,
		}, nil, whyAnswer{}, (*Server).apiWhy},
		{"GET", "/api/rules", "The rules in force, in order of evaluation.", nil, nil, rulesAnswer{}, (*Server).apiRules},
		{"POST", "/api/rules/try", "Check a configuration, or a section `rules:` alone, and run what was recorded again under it. Nothing is changed.",
			[]Parameter{{Name: "since", Summary: "a span; 7d if it is not given"}}, Text(""), Trial{}, (*Server).apiTry},
		{"GET", "/api/rules/observed", "What each rule that only observes would have changed, and the edit that enforces it.",
			[]Parameter{{Name: "since", Summary: "a span; 7d if it is not given"}}, nil, observedAnswer{}, (*Server).apiObserved},
		{"GET", "/api/rules/recommended", "Settings that would fit the recorded mail better, with what each would have changed.",
			[]Parameter{{Name: "since", Summary: "a span; 7d if it is not given"}}, nil, adviceAnswer{}, (*Server).apiRecommended},
		{"GET", "/api/greylist", "What is remembered of senders.", []Parameter{
			{Name: "query", Summary: "a client, a network, a sender, a domain, or a client and a sender"}, limitParameter,
		}, nil, greylistAnswer{}, (*Server).apiGreylist},
		{"POST", "/api/greylist/pass", "Let a client's network, a sender or a domain pass from now on.", nil, queryRequest{}, passAnswer{}, (*Server).apiPass},
		{"POST", "/api/greylist/forget", "Forget marks: their senders are new again.", nil, queryRequest{}, countAnswer{}, (*Server).apiForget},
		{"GET", "/api/learned", "What filters learn from mail, by kind.", nil, nil, memoriesAnswer{}, (*Server).apiMemories},
		{"GET", "/api/learned/{memory}", "What is known of one kind.", []Parameter{
			{Name: "query", Summary: "what it is about; the kind says what that may be"}, limitParameter,
		}, nil, learnedAnswer{}, (*Server).apiLearned},
		{"POST", "/api/learned/{memory}/forget", "Forget what a query is about.", nil, queryRequest{}, countAnswer{}, (*Server).apiForgetLearned},
		{"GET", "/api/exceptions", "The exceptions in force, those that end first at the head.", nil, nil, exceptionsAnswer{}, (*Server).apiExceptions},
		{"POST", "/api/exceptions", "Make an exception: allow or block a client, a sender or a recipient for a time.", nil, exceptionRequest{}, exceptionAnswer{}, (*Server).apiAddException},
		{"DELETE", "/api/exceptions", "End an exception before its time.", []Parameter{
			{"action", "allow or block", true}, {Name: "kind", Summary: "client, sender or recipient"}, {"value", "what it is about", true},
		}, nil, countAnswer{}, (*Server).apiEndException},
		{"GET", "/api/lists", "The list files that rules read, as they were loaded.", nil, nil, listsAnswer{}, (*Server).apiLists},
		{"GET", "/api/configuration", "The configuration in force as a file, without secrets.", nil, nil, textAnswer{}, (*Server).apiConfiguration},
		{"GET", "/api/quarantine", "Messages in quarantine, the newest first.", []Parameter{limitParameter}, nil, quarantineAnswer{}, (*Server).apiQuarantine},
		{"GET", "/api/quarantine/{id}", "One of them.", nil, nil, messageAnswer{}, (*Server).apiMessage},
		{"POST", "/api/quarantine/{id}/release", "Deliver it to the backend.", nil, nil, replyAnswer{}, (*Server).apiRelease},
		{"DELETE", "/api/quarantine/{id}", "Delete it.", nil, nil, countAnswer{}, (*Server).apiDelete},
	}
}

func (s *Server) apiNow(*http.Request) (any, error) {
	now := s.House.Now()
	// Empty lists, not null: programs go through them.
	now.NotReady, now.Hints = append([]string{}, now.NotReady...), append([]string{}, now.Hints...)
	over := func(width time.Duration, bars int) series {
		return series{int(width / time.Second), now.At.Truncate(width).Add(width), s.Traffic.Over(now.At, width, bars)}
	}
	return nowAnswer{now, over(hourBar, hourBars), over(dayBar, dayBars)}, nil
}

func (s *Server) apiJournal(r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := limitOf(q.Get("limit"), pageRows)
	if err != nil {
		return nil, err
	}
	found, err := s.search(r.Context(), Search{Where: q.Get("where"), Since: q.Get("since"), Until: q.Get("until"), Limit: limit})
	if err != nil {
		return nil, err
	}
	out := journalAnswer{Entries: []journal.EntryJSON{}, More: found.More, Stopped: found.Stopped}
	for _, e := range found.Entries {
		out.Entries = append(out.Entries, journal.NewEntryJSON(e))
	}
	return out, nil
}

func (s *Server) apiEntry(r *http.Request) (any, error) {
	id := r.PathValue("id")
	if session, _, _ := strings.Cut(id, "."); !isID(session) {
		return nil, ErrNotFound
	}
	stories, err := s.why(r.Context(), id, maxStories)
	if err != nil {
		return nil, err
	}
	for i := range stories {
		if stories[i].Entry.ID == id {
			return told(&stories[i]), nil
		}
	}
	return nil, ErrNotFound
}

func told(story *Story) storyAnswer {
	return storyAnswer{journal.NewEntryJSON(story.Entry), story.Chapters}
}

func (s *Server) apiWhy(r *http.Request) (any, error) {
	limit, err := limitOf(r.URL.Query().Get("limit"), maxStories)
	if err != nil {
		return nil, err
	}
	stories, err := s.why(r.Context(), r.URL.Query().Get("about"), limit)
	out := whyAnswer{Stories: []storyAnswer{}}
	for i := range stories {
		out.Stories = append(out.Stories, told(&stories[i]))
	}
	return out, err
}

func (s *Server) apiRules(*http.Request) (any, error) {
	text, err := s.House.RulesText()
	return rulesAnswer{notNil(s.House.Rules()), text}, err
}

func (s *Server) apiTry(r *http.Request) (any, error) {
	text, err := fileText(r)
	if err != nil {
		return nil, err
	}
	trial, err := s.try(r.Context(), text, cmp.Or(r.URL.Query().Get("since"), defaultPast))
	if err != nil {
		return nil, err
	}
	trial.Problems, trial.Warnings = notNil(trial.Problems), notNil(trial.Warnings)
	shorten(trial.Report, toldExamples)
	return trial, nil
}

func (s *Server) apiGreylist(r *http.Request) (any, error) {
	limit, err := limitOf(r.URL.Query().Get("limit"), pageRows)
	if err != nil {
		return nil, err
	}
	marks, more, err := s.marks(r.Context(), r.URL.Query().Get("query"), limit)
	return greylistAnswer{notNil(marks), more}, err
}

func (s *Server) apiPass(r *http.Request) (any, error) {
	q, err := request[queryRequest](r)
	if err != nil {
		return nil, err
	}
	key, err := s.House.PassGreylist(r.Context(), q.Query)
	return passAnswer{key}, err
}

func (s *Server) apiForget(r *http.Request) (any, error) {
	q, err := request[queryRequest](r)
	if err != nil {
		return nil, err
	}
	n, err := s.House.ForgetGreylist(r.Context(), q.Query)
	return countAnswer{n}, err
}

func (s *Server) apiExceptions(r *http.Request) (any, error) {
	list, err := s.House.Exceptions(r.Context())
	return exceptionsAnswer{notNil(list)}, err
}

func (s *Server) apiAddException(r *http.Request) (any, error) {
	q, err := request[exceptionRequest](r)
	if err != nil {
		return nil, err
	}
	e, unread, err := s.House.AddException(r.Context(), exception.Request(q))
	return exceptionAnswer{e, unread}, err
}

func (s *Server) apiEndException(r *http.Request) (any, error) {
	q := r.URL.Query()
	n, err := s.House.RemoveException(r.Context(), exception.Request{Action: exception.Action(q.Get("action")), Kind: exception.Kind(q.Get("kind")), Value: q.Get("value")})
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return countAnswer{n}, err
}

func (s *Server) apiLists(*http.Request) (any, error) {
	return listsAnswer{notNil(s.House.Lists())}, nil
}

func (s *Server) apiConfiguration(*http.Request) (any, error) {
	text, err := s.House.Configuration()
	return textAnswer{text}, err
}

// notNil makes an empty list of none: a program that reads an answer need not know of null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
