package admin

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"gatepost/filters"
	"gatepost/filters/exception"
	"gatepost/filters/greylist"
	"gatepost/proxy/journal"
)

// remedies is what can be done about an entry.
type remedies struct {
	Targets     []target
	Spans       []string
	Marks       []greylist.Entry // what is remembered of the sender
	MarksQuery  string           // the query for them; empty: there is nothing to ask for
	Quarantined *QuarantinedMessage
}

// target is what an exception can be about. Value is its kind and what it is, with a space between.
type target struct{ Value, Text string }

// spans are for how long exceptions are offered.
var spans = []string{"1d", "7d", "30d", "90d", "365d"}

// maxTargets bounds the recipients that are offered.
const maxTargets = 10

func (s *Server) remediesFor(ctx context.Context, e *journal.Entry) remedies {
	rem := remedies{Spans: spans}
	if e.Session != nil {
		client := e.Session.Client.IP.Unmap().WithZone("").String()
		rem.Targets = append(rem.Targets, target{string(exception.Client) + " " + client, "the client " + client})
		rem.MarksQuery = client
	}
	if e.Envelope != nil && e.Envelope.ReversePath != "" {
		rem.addSender(e.Envelope.ReversePath)
	}
	for i := range e.Recipients[:min(len(e.Recipients), maxTargets)] {
		address := e.Recipients[i].Address
		rem.Targets = append(rem.Targets, target{string(exception.Recipient) + " " + address, "the recipient " + address})
	}
	if e.Attempt == nil {
		rem.MarksQuery = ""
	}
	if rem.MarksQuery != "" {
		// What cannot be asked for is not shown: the page is about the entry.
		_ = s.House.Greylist(ctx, rem.MarksQuery, func(m greylist.Entry) bool {
			rem.Marks = append(rem.Marks, m)
			return len(rem.Marks) < maxTargets
		})
	}
	if q := s.House.Quarantine(); q != nil && isTransaction(e) {
		if m, _, err := q.Show(ctx, e.ID); err == nil {
			rem.Quarantined = &m
		}
	}
	return rem
}

func (r *remedies) addSender(address string) {
	r.Targets = append(r.Targets, target{string(exception.Sender) + " " + address, "the sender " + address})
	if _, domain := filters.SplitAddress(address); domain != "" {
		r.Targets = append(r.Targets, target{string(exception.Sender) + " " + domain, "all senders of " + domain})
	}
	if !strings.ContainsAny(address, " \t") {
		r.MarksQuery += " " + address
	}
}

// addException makes one, from the form of a transaction (target) or that of the exceptions (kind and value).
func (s *Server) addException(w http.ResponseWriter, r *http.Request) {
	request := exception.Request{Action: exception.Action(r.PostFormValue("action")), Kind: exception.Kind(r.PostFormValue("kind")),
		Value: strings.TrimSpace(r.PostFormValue("value")), Why: strings.TrimSpace(r.PostFormValue("why"))}
	if kind, value, ok := strings.Cut(r.PostFormValue("target"), " "); ok {
		request.Kind, request.Value = exception.Kind(kind), value
	}
	if err := request.For.UnmarshalText([]byte(r.PostFormValue("for"))); err != nil {
		s.back(w, r, "", fmt.Errorf("for how long: %w", err))
		return
	}
	e, unread, err := s.House.AddException(r.Context(), request)
	if err != nil {
		s.back(w, r, "", err)
		return
	}
	text := fmt.Sprintf("The %s %s is %s until %s.", e.Kind, e.Value, done[e.Action], when(e.Expires))
	if unread {
		text += fmt.Sprintf(" No rule that is in force reads exception.%s, so that this changes nothing.", e.Kind)
	}
	s.back(w, r, text, nil)
}

var done = map[exception.Action]string{exception.Allow: "allowed", exception.Block: "blocked"}

func (s *Server) removeException(w http.ResponseWriter, r *http.Request) {
	request := exception.Request{Action: exception.Action(r.PostFormValue("action")), Kind: exception.Kind(r.PostFormValue("kind")), Value: r.PostFormValue("value")}
	n, err := s.House.RemoveException(r.Context(), request)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	s.back(w, r, request.Value+" is as all others again.", err)
}

// exceptionsData is what exceptions.html shows.
type exceptionsData struct {
	List  []*exception.Entry
	More  int // that are not shown
	Kinds []exception.Kind
	Spans []string
}

func (s *Server) exceptionsPage(w http.ResponseWriter, r *http.Request) {
	list, err := s.House.Exceptions(r.Context())
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	data := exceptionsData{List: list[:min(len(list), maxRows)], Kinds: exception.Kinds, Spans: spans}
	data.More = len(list) - len(data.List)
	s.show(w, r, http.StatusOK, "exceptions", "Exceptions", data)
}

// greylistData is what greylist.html shows.
type greylistData struct {
	Query string
	Marks []greylist.Entry
	More  bool
	Error string
}

func (s *Server) greylistPage(w http.ResponseWriter, r *http.Request) {
	data := greylistData{Query: strings.TrimSpace(r.URL.Query().Get("query"))}
	var err error
	if data.Marks, data.More, err = s.marks(r.Context(), data.Query, pageRows); err != nil {
		data.Error = err.Error()
	}
	s.show(w, r, http.StatusOK, "greylist", "Greylist", data)
}

// marks are at most limit marks that a query is about.
func (s *Server) marks(ctx context.Context, query string, limit int) (list []greylist.Entry, more bool, err error) {
	done, err := s.take(s.searching)
	if err != nil {
		return nil, false, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	err = s.House.Greylist(ctx, query, func(e greylist.Entry) bool {
		more = len(list) == limit
		if !more {
			list = append(list, e)
		}
		return !more
	})
	return list, more, err
}

func (s *Server) passGreylist(w http.ResponseWriter, r *http.Request) {
	key, err := s.House.PassGreylist(r.Context(), r.PostFormValue("query"))
	s.back(w, r, strings.TrimPrefix(key, "o:")+" passes from now on.", err)
}

func (s *Server) forgetGreylist(w http.ResponseWriter, r *http.Request) {
	n, err := s.House.ForgetGreylist(r.Context(), r.PostFormValue("query"))
	s.back(w, r, fmt.Sprintf("Marks forgotten: %d.", n), err)
}
