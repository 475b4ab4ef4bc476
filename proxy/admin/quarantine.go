package admin

import (
	"context"
	"net/http"
)

// quarantineData is what quarantine.html shows.
type quarantineData struct {
	List []QuarantinedMessage
	More bool
}

func (s *Server) quarantinePage(w http.ResponseWriter, r *http.Request) {
	q := s.House.Quarantine()
	if q == nil {
		s.trouble(w, r, ErrNotFound)
		return
	}
	list, more, err := firstMessages(r.Context(), q, pageRows)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "quarantine", "Quarantine", quarantineData{list, more})
}

func firstMessages(ctx context.Context, q Quarantine, limit int) (list []QuarantinedMessage, more bool, err error) {
	err = q.List(ctx, func(m QuarantinedMessage) bool {
		more = len(list) == limit
		if !more {
			list = append(list, m)
		}
		return !more
	})
	return list, more, err
}

// messageData is what message.html shows.
type messageData struct {
	QuarantinedMessage
	Header string
}

func (s *Server) messagePage(w http.ResponseWriter, r *http.Request) {
	q := s.House.Quarantine()
	if q == nil {
		s.trouble(w, r, ErrNotFound)
		return
	}
	m, header, err := q.Show(r.Context(), r.PathValue("id"))
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "message", "Message "+m.ID, messageData{m, header})
}

func (s *Server) releaseMessage(w http.ResponseWriter, r *http.Request) {
	s.quarantined(w, r, func(q Quarantine, id string) (string, error) {
		reply, err := q.Release(r.Context(), id)
		return "It is delivered: " + reply, err
	})
}

func (s *Server) deleteMessage(w http.ResponseWriter, r *http.Request) {
	s.quarantined(w, r, func(q Quarantine, id string) (string, error) {
		return "It is deleted.", q.Delete(r.Context(), id)
	})
}

func (s *Server) quarantined(w http.ResponseWriter, r *http.Request, change func(Quarantine, string) (string, error)) {
	q := s.House.Quarantine()
	if q == nil {
		s.trouble(w, r, ErrNotFound)
		return
	}
	text, err := change(q, r.PathValue("id"))
	s.back(w, r, text, err)
}
