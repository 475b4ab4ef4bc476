package admin

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"sync"
)

// maxNotes is how many words on what was done are kept for the page that follows.
const maxNotes = 64

// notes carry a message from a request that changed something to the page that the browser is sent to next. The address
// of that page names the note and does not hold its text, so that nobody can make a link that puts words into our mouth.
// Safe for concurrent use.
type notes struct {
	mu   sync.Mutex // guards all below
	list [maxNotes]note
	next int
}

// note is what is told to the operator.
type note struct {
	id   string
	Text string
	Bad  bool // it did not work
}

func (n *notes) keep(text string, bad bool) (id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id = rand.Text()
	n.list[n.next%maxNotes] = note{id, text, bad}
	n.next++
	return id
}

func (n *notes) find(id string) *note {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, one := range n.list {
		if id != "" && one.id == id {
			return &one
		}
	}
	return nil
}

// back sends the browser to a page of ours that shows what was done.
func (s *Server) back(w http.ResponseWriter, r *http.Request, text string, err error) {
	if err != nil {
		text = err.Error()
	}
	to, parseErr := url.Parse(localPath(r.PostFormValue("next")))
	if parseErr != nil {
		to = &url.URL{Path: "/"}
	}
	q := to.Query()
	q.Set("note", s.notes.keep(text, err != nil))
	to.RawQuery = q.Encode()
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
}
