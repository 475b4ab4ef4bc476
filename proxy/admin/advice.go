package admin

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"gatepost/filters"
	"gatepost/policy/replay"
)

// Observed is a rule that is only watched, and what it would have done.
type Observed struct {
	Name    string         `json:"rule"`
	Action  string         `json:"action"`
	Place   string         `json:"place"`
	Matched int            `json:"matched"`                // transactions, in the replay
	Watched time.Time      `json:"watched_since,omitzero"` // since when a rule of this name and text has been observed
	Longer  bool           `json:"or_longer,omitempty"`    // before that the journal knows nothing of rules
	First   time.Time      `json:"first_seen,omitzero"`    // the first match that was recorded as observed
	Report  *replay.Report `json:"enforced"`
	// Warnings say why it should perhaps not be enforced yet.
	Warnings []string `json:"warnings"`
	// Edit is the diff that enforces it. It is empty where the rule stands in no file that can be edited, and EditProblem says so.
	Edit        string `json:"edit,omitempty"`
	EditProblem string `json:"edit_problem,omitempty"`
}

// Recommendation is a change that would fit the mail of the last days better, with its figures and what it would have
// done.
type Recommendation struct {
	Kind    string   `json:"kind"`    // greylist, pool, limit, rule, list
	Subject string   `json:"subject"` // what it is about
	Text    string   `json:"text"`
	Figures any      `json:"figures"`
	Reasons []string `json:"reasons"` // the figures in words
	Change  string   `json:"change"`
	// Backtest is what adopting it would have changed. Without one Untried says why.
	Backtest *replay.Report `json:"backtest,omitempty"`
	Untried  string         `json:"untried,omitempty"`
}

// Advice is all that is recommended, and what was looked at.
type Advice struct {
	Transactions    int               `json:"transactions"`
	Sessions        int               `json:"sessions"`
	Recommendations []*Recommendation `json:"recommendations"`
	// Fits says of what was looked at and is left as it is, and of what too little is known.
	Fits []string `json:"fits"`
}

// observedAnswer and adviceAnswer are what the API gives.
type (
	observedAnswer struct {
		Rules   []*Observed `json:"rules"`
		Stopped bool        `json:"stopped"` // time was up before everything was looked at
	}
	adviceAnswer struct {
		Advice
		Stopped bool `json:"stopped"`
	}
)

// past reads the parameter since, and takes the place of who runs the journal again.
func (s *Server) past(ctx context.Context, since string) (time.Duration, context.Context, func(), error) {
	var span filters.Duration
	if err := span.UnmarshalText([]byte(since)); err != nil {
		return 0, nil, nil, fmt.Errorf("since: %w", err)
	}
	done, err := s.take(s.trying)
	if err != nil {
		return 0, nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	return time.Duration(span), ctx, func() { cancel(); done() }, nil
}

func (s *Server) observed(ctx context.Context, since string) (observedAnswer, error) {
	span, ctx, done, err := s.past(ctx, since)
	if err != nil {
		return observedAnswer{}, err
	}
	defer done()
	list, err := s.House.Observe(ctx, span)
	for _, o := range list {
		o.Warnings = notNil(o.Warnings)
		shorten(o.Report, toldExamples)
	}
	return observedAnswer{notNil(list), ctx.Err() != nil}, err
}

func (s *Server) recommended(ctx context.Context, since string) (adviceAnswer, error) {
	span, ctx, done, err := s.past(ctx, since)
	if err != nil {
		return adviceAnswer{}, err
	}
	defer done()
	advice, err := s.House.Recommend(ctx, span)
	if err != nil {
		return adviceAnswer{}, err
	}
	for _, r := range advice.Recommendations {
		r.Reasons = notNil(r.Reasons)
		shorten(r.Backtest, toldExamples)
	}
	return adviceAnswer{*advice, ctx.Err() != nil}, nil
}

// shorten bounds the transactions that a report names.
func shorten(r *replay.Report, examples int) {
	if r == nil {
		return
	}
	for i := range r.Changes {
		r.Changes[i].Transactions = first(r.Changes[i].Transactions, examples)
	}
	for i := range r.Unknown {
		r.Unknown[i].Transactions = first(r.Unknown[i].Transactions, examples)
	}
}

// pastData is what observed.html and recommended.html show.
type pastData struct {
	Path    string
	Since   string
	Pasts   []string
	Now     time.Time
	Shown   int // transactions of each group
	Stopped bool
	Error   string
	Rules   []*Observed
	Advice  *Advice
}

func (s *Server) pastData(r *http.Request) pastData {
	data := pastData{Path: r.URL.Path, Since: r.URL.Query().Get("since"), Pasts: pasts, Now: s.Clock.Now(), Shown: pageExamples}
	if data.Since == "" {
		data.Since = defaultPast
	}
	return data
}

// pageExamples is how many transactions of a group these pages name.
const pageExamples = 5

func (s *Server) observedPage(w http.ResponseWriter, r *http.Request) {
	data := s.pastData(r)
	answer, err := s.observed(r.Context(), data.Since)
	if data.Rules, data.Stopped = answer.Rules, answer.Stopped; err != nil {
		data.Error = err.Error()
	}
	s.show(w, r, http.StatusOK, "observed", "Rules that are only watched", data)
}

func (s *Server) recommendedPage(w http.ResponseWriter, r *http.Request) {
	data := s.pastData(r)
	answer, err := s.recommended(r.Context(), data.Since)
	if data.Advice, data.Stopped = &answer.Advice, answer.Stopped; err != nil {
		data.Error = err.Error()
	}
	s.show(w, r, http.StatusOK, "recommended", "What would fit better", data)
}

func (s *Server) apiObserved(r *http.Request) (any, error) {
	return s.observed(r.Context(), s.pastData(r).Since)
}

func (s *Server) apiRecommended(r *http.Request) (any, error) {
	return s.recommended(r.Context(), s.pastData(r).Since)
}
