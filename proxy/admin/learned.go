package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"gatepost/filters"
)

const learnedPath = "/learned"

// learnedData is what learned.html shows: one memory, and the way to the others.
type learnedData struct {
	Kinds   []filters.MemoryKind
	Kind    filters.MemoryKind
	Query   string
	Entries []filters.Learned
	More    bool
	Error   string
}

func (s *Server) learnedPage(w http.ResponseWriter, r *http.Request) {
	kinds := s.House.Memories()
	name := r.PathValue("memory")
	if name == "" && len(kinds) > 0 {
		name = kinds[0].Name
	}
	kind, err := s.memoryKind(name)
	if err != nil {
		s.trouble(w, r, err)
		return
	}
	data := learnedData{Kinds: kinds, Kind: kind, Query: strings.TrimSpace(r.URL.Query().Get("query"))}
	if data.Entries, data.More, err = s.learned(r.Context(), name, data.Query, pageRows); err != nil {
		data.Error = err.Error()
	}
	s.show(w, r, http.StatusOK, "learned", "Learned: "+kind.Title, data)
}

func (s *Server) memoryKind(name string) (filters.MemoryKind, error) {
	kinds := s.House.Memories()
	i := slices.IndexFunc(kinds, func(k filters.MemoryKind) bool { return k.Name == name })
	if i < 0 {
		return filters.MemoryKind{}, ErrNotFound
	}
	kind := kinds[i]
	kind.Columns = notNil(kind.Columns)
	return kind, nil
}

// learned is at most limit entries of a memory that a query is about.
func (s *Server) learned(ctx context.Context, memory, query string, limit int) (list []filters.Learned, more bool, err error) {
	done, err := s.take(s.searching)
	if err != nil {
		return nil, false, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	err = s.House.Learned(ctx, memory, query, func(l filters.Learned) bool {
		if more = len(list) == limit; !more {
			l.Values = notNil(l.Values)
			list = append(list, l)
		}
		return !more
	})
	return list, more, err
}

func (s *Server) forgetLearned(w http.ResponseWriter, r *http.Request) {
	n, err := s.House.ForgetLearned(r.Context(), r.PathValue("memory"), r.PostFormValue("query"))
	s.back(w, r, fmt.Sprintf("Forgotten: %d.", n), err)
}

func (s *Server) apiMemories(*http.Request) (any, error) {
	kinds := slices.Clone(s.House.Memories())
	for i := range kinds {
		kinds[i].Columns = notNil(kinds[i].Columns)
	}
	return memoriesAnswer{notNil(kinds)}, nil
}

func (s *Server) apiLearned(r *http.Request) (any, error) {
	limit, err := limitOf(r.URL.Query().Get("limit"), pageRows)
	if err != nil {
		return nil, err
	}
	kind, err := s.memoryKind(r.PathValue("memory"))
	if err != nil {
		return nil, err
	}
	entries, more, err := s.learned(r.Context(), kind.Name, r.URL.Query().Get("query"), limit)
	return learnedAnswer{kind, notNil(entries), more}, err
}

func (s *Server) apiForgetLearned(r *http.Request) (any, error) {
	q, err := request[queryRequest](r)
	if err != nil {
		return nil, err
	}
	n, err := s.House.ForgetLearned(r.Context(), r.PathValue("memory"), q.Query)
	return countAnswer{n}, err
}
