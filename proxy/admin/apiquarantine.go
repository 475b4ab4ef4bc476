package admin

import "net/http"

func (s *Server) apiQuarantine(r *http.Request) (any, error) {
	q := s.House.Quarantine()
	if q == nil {
		return nil, ErrNotFound
	}
	limit, err := limitOf(r.URL.Query().Get("limit"), pageRows)
	if err != nil {
		return nil, err
	}
	messages, more, err := firstMessages(r.Context(), q, limit)
	return quarantineAnswer{notNil(messages), more}, err
}

func (s *Server) apiMessage(r *http.Request) (any, error) {
	q := s.House.Quarantine()
	if q == nil {
		return nil, ErrNotFound
	}
	m, header, err := q.Show(r.Context(), r.PathValue("id"))
	return messageAnswer{m, header}, err
}

func (s *Server) apiRelease(r *http.Request) (any, error) {
	q := s.House.Quarantine()
	if q == nil {
		return nil, ErrNotFound
	}
	reply, err := q.Release(r.Context(), r.PathValue("id"))
	return replyAnswer{reply}, err
}

func (s *Server) apiDelete(r *http.Request) (any, error) {
	q := s.House.Quarantine()
	if q == nil {
		return nil, ErrNotFound
	}
	return countAnswer{1}, q.Delete(r.Context(), r.PathValue("id"))
}
