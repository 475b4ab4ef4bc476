package proxy

import (
	"errors"
	"fmt"
	"slices"
)

// Listening is where a reload has clients served.
type Listening struct {
	Entries []Listen // all that there are to be
	Added   []Bound  // those of them that are new
}

var errNotListening = errors.New("the proxy does not accept clients any more")

// Reload makes new sessions work with v. With a change, listeners of the same address get their entry's settings and
// certificates, those without an entry are closed, and those that are added are served; nil: listeners stay as they are.
// Sessions go on, wherever they came in. On error everything stays as it was, and sockets that were to be added are open.
func (s *Server) Reload(v Service, change *Listening) error {
	apply, err := s.Prepare(v, change)
	if err != nil {
		return err
	}
	apply()
	return nil
}

// Prepare is the part of Reload that can fail; apply is the rest. Between the two nobody else may reload.
func (s *Server) Prepare(v Service, change *Listening) (apply func(), err error) {
	if err := v.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening.Err() != nil || s.closing.Load() {
		return nil, errNotListening
	}
	relisten := func() {}
	if change != nil {
		if relisten, err = s.relisten(change); err != nil {
			return nil, err
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		relisten()
		s.service.Swap(newService(v)).release()
	}, nil
}

// relisten reads what the listeners are to have, and returns what changes them. The caller of both holds the mutex.
func (s *Server) relisten(change *Listening) (apply func(), err error) {
	kept, rest := map[*listener]*listenConfig{}, slices.Clone(change.Entries)
	for l := range s.listeners {
		address := l.config.Load().Address
		i := slices.IndexFunc(rest, func(e Listen) bool { return e.Address == address })
		if i < 0 {
			continue
		}
		config, err := s.newListenConfig(rest[i])
		if err != nil {
			return nil, err
		}
		kept[l], rest = config, slices.Delete(rest, i, i+1)
	}
	var added []*listener
	for _, b := range change.Added {
		l, err := s.newListener(b)
		if err != nil {
			return nil, err
		}
		added = append(added, l)
	}
	return func() {
		for l := range s.listeners {
			if config, stays := kept[l]; stays {
				l.config.Store(config)
				continue
			}
			l.socket.Close()
			delete(s.listeners, l)
		}
		s.begin(added)
	}, nil
}
