package called

import (
	"errors"
	"fmt"
	"slices"
)

// Listening is where a reload has MTAs served.
type Listening[L Entry] struct {
	Entries []L        // all that there are to be
	Added   []Bound[L] // those of them that are new
}

// Reload makes new sessions work with v. With a change, listeners of the same address get their entry's settings, those
// without an entry are closed, and those that are added are served; nil: listeners stay as they are. Sessions go on,
// wherever they came in. On error everything stays as it was, and sockets that were to be added are open.
func (s *Server[L]) Reload(v Service, change *Listening[L]) error {
	apply, err := s.Prepare(v, change)
	if err != nil {
		return err
	}
	apply()
	return nil
}

// Prepare is the part of Reload that can fail; apply is the rest. Between the two nobody else may reload. The files of UNIX
// sockets that stay have their entry's mode and group afterwards.
func (s *Server[L]) Prepare(v Service, change *Listening[L]) (apply func(), err error) {
	if err := v.validate(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listening.Err() != nil || s.closing.Load() {
		return nil, errors.New(s.key + " does not accept MTAs any more")
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

// relisten finds out which listeners stay, and returns what changes them. The caller of both holds the mutex.
func (s *Server[L]) relisten(change *Listening[L]) (apply func(), err error) {
	kept, rest := map[*listener[L]]*L{}, slices.Clone(change.Entries)
	for l := range s.listeners {
		before := (*l.entry.Load()).Common()
		i := slices.IndexFunc(rest, func(e L) bool { return e.Common().Address == before.Address })
		if i < 0 {
			continue
		}
		entry := rest[i]
		if err := readmit(before, entry.Common()); err != nil {
			for l, entry := range kept {
				err = errors.Join(err, readmit((*entry).Common(), (*l.entry.Load()).Common()))
			}
			return nil, fmt.Errorf("%s: %w", s.key, err)
		}
		kept[l], rest = &entry, slices.Delete(rest, i, i+1)
	}
	return func() {
		for l := range s.listeners {
			if entry, stays := kept[l]; stays {
				l.entry.Store(entry)
				continue
			}
			l.socket.Close()
			delete(s.listeners, l)
		}
		s.serve(change.Added)
	}, nil
}

// readmit lets those use a UNIX socket who may now.
func readmit(before, now Listen) error {
	if before.Mode == now.Mode && before.Group == now.Group {
		return nil
	}
	network, path, err := now.endpoint()
	if err != nil || network != "unix" {
		return err
	}
	if err := now.admit(path); err != nil {
		return errors.Join(fmt.Errorf("listen on %s: %w", now.Address, err), before.admit(path))
	}
	return nil
}
