package admin

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gatepost/proxy/journal"
)

const (
	// searchTime is how long a search may look; what it has found until then is shown.
	searchTime = 20 * time.Second
	// pageRows is how many rows a page has, maxRows how many the API gives at once.
	pageRows = 100
	maxRows  = 1000
	// maxQuery bounds what is typed into a field.
	maxQuery = 8 << 10
	// maxStories bounds the entries of one question; a session has few transactions, or many.
	maxStories = 50
)

// searchData is what search.html shows.
type searchData struct {
	Search
	Found *Found
	Error string
	Older string // the address of the page with older ones; empty: there are none
}

func (s *Server) searchPage(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	data := searchData{Search: Search{Where: strings.TrimSpace(q.Get("where")), Since: strings.TrimSpace(q.Get("since")),
		Until: strings.TrimSpace(q.Get("until")), Limit: pageRows}}
	found, err := s.search(r.Context(), data.Search)
	if err != nil {
		data.Error = err.Error() // a slip of the pen in a form is no error of the page
	} else {
		data.Found = found
		data.Older = older(data.Search, found)
	}
	s.show(w, r, http.StatusOK, "search", "Search", data)
}

// older is the address of what comes behind the last entry.
func older(asked Search, found *Found) string {
	from := found.Stopped
	if found.More && len(found.Entries) > 0 {
		from = found.Entries[len(found.Entries)-1].End
	}
	if from.IsZero() {
		return ""
	}
	q := url.Values{"until": {iso(from)}}
	if asked.Where != "" {
		q.Set("where", asked.Where)
	}
	if asked.Since != "" {
		q.Set("since", asked.Since)
	}
	return "/search?" + q.Encode()
}

// search looks into the journal, for a bounded time and with few others.
func (s *Server) search(ctx context.Context, q Search) (*Found, error) {
	if len(q.Where)+len(q.Since)+len(q.Until) > maxQuery {
		return nil, errors.New("the expression is too long")
	}
	done, err := s.take(s.searching)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	return s.House.Search(ctx, q)
}

// take waits for no place: who asks is a person, who can ask again.
func (s *Server) take(places chan struct{}) (done func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	default:
		return nil, errBusy
	}
}

// why finds the stories of what was asked about.
func (s *Server) why(ctx context.Context, text string, limit int) ([]Story, error) {
	if len(text) > maxQuery {
		text = text[:maxQuery]
	}
	done, err := s.take(s.searching)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	return s.House.Why(ctx, text, limit)
}

// whyPage leads to what a text is about: an id in it, a mail address, an IP address.
func (s *Server) whyPage(w http.ResponseWriter, r *http.Request) {
	text := strings.TrimSpace(r.URL.Query().Get("about"))
	if text == "" {
		http.Redirect(w, r, "/search", http.StatusSeeOther)
		return
	}
	stories, err := s.why(r.Context(), text, maxStories)
	switch {
	case err != nil:
		s.trouble(w, r, err)
	case len(stories) == 0:
		s.trouble(w, r, errors.New("the journal has nothing on that; entries are written when a transaction has ended, and kept for a time (journal.keep)"))
	case len(stories) == 1:
		http.Redirect(w, r, transactionPath(stories[0].Entry.ID), http.StatusSeeOther)
	default:
		s.show(w, r, http.StatusOK, "search", "Search", searchData{Found: &Found{Entries: entriesOf(stories)}})
	}
}

func entriesOf(stories []Story) (list []*journal.Entry) {
	for i := range stories {
		list = append(list, stories[i].Entry)
	}
	return list
}

// transactionPath is the page of an entry.
func transactionPath(id string) string { return "/transaction/" + url.PathEscape(id) }

// transactionData is what transaction.html shows.
type transactionData struct {
	Story
	Others   []*journal.Entry // the session and its other transactions
	Facts    []factRow
	Remedies remedies
}

// factRow is a fact by which the entry was judged.
type factRow struct {
	Name  string
	Value any
}

func (s *Server) transactionPage(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	session, _, _ := strings.Cut(id, ".")
	if !isID(session) {
		s.trouble(w, r, ErrNotFound)
		return
	}
	stories, err := s.why(r.Context(), session, maxStories)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	data := transactionData{}
	for i := range stories {
		if e := stories[i].Entry; e.ID == id {
			data.Story = stories[i]
		} else {
			data.Others = append(data.Others, e)
		}
	}
	if data.Entry == nil && !strings.Contains(id, ".") && len(stories) > 0 { // the session is still open
		data.Story, data.Others = stories[0], data.Others[1:]
	}
	if data.Entry == nil { // of a session with many, it is not among the latest
		only, err := s.why(r.Context(), id, 1)
		if err != nil || len(only) == 0 {
			s.trouble(w, r, cmp.Or(err, ErrNotFound))
			return
		}
		data.Story = only[0]
	}
	for i := range data.Entry.Facts {
		data.Entry.Facts[i].All(func(name string, value any) { data.Facts = append(data.Facts, factRow{name, value}) })
	}
	data.Remedies = s.remediesFor(r.Context(), data.Entry)
	s.show(w, r, http.StatusOK, "transaction", titleOf(data.Entry), data)
}

// isID tells the id of a session.
func isID(text string) bool {
	_, ok := journal.IDTime(text)
	return ok
}

func titleOf(e *journal.Entry) string {
	if e.Change != nil {
		return "Change " + e.ID
	}
	if isTransaction(e) {
		return "Transaction " + e.ID
	}
	return "Session " + e.ID
}

// limitOf reads the parameter limit.
func limitOf(text string, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxRows {
		return 0, errors.New("limit: a number from 1 to " + strconv.Itoa(maxRows) + " belongs here")
	}
	return n, nil
}

// statusOf is the status of an answer that tells an error.
func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, errBusy), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	case errors.As(err, new(*http.MaxBytesError)):
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusUnprocessableEntity
}
