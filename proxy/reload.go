package proxy

import (
	"errors"
	"fmt"

	"gatepost/proxy/front"
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

// Prepare is the part of Reload that can fail; apply is the rest. Between the two nobody else may reload; if
// the server ends between them, apply lets nobody in.
func (s *Server) Prepare(v Service, change *Listening) (apply func(), err error) {
	if err := v.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	if s.doors.Closed() || s.closing.Load() {
		return nil, errNotListening
	}
	relisten := func() {}
	if change != nil {
		if relisten, err = s.relisten(change); err != nil {
			return nil, err
		}
	}
	return func() {
		relisten()
		s.service.Replace(newService(v))
	}, nil
}

// relisten reads what the doors are to have, and returns what changes them.
func (s *Server) relisten(change *Listening) (apply func(), err error) {
	kept := map[*door]*listenConfig{}
	for d, entry := range front.Match(s.doors, change.Entries, func(c *listenConfig, l Listen) bool { return c.Address == l.Address }) {
		if kept[d], err = s.newListenConfig(entry); err != nil {
			return nil, err
		}
	}
	added, err := s.newDoors(change.Added)
	if err != nil {
		return nil, err
	}
	return func() { s.doors.Change(kept, added) }, nil
}
