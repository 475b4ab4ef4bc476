package called

import (
	"errors"
	"fmt"

	"gatepost/proxy/front"
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

// Prepare is the part of Reload that can fail; apply is the rest. Between the two nobody else may reload; if
// the server ends between them, apply lets nobody in. The files of UNIX
// sockets that stay have their entry's mode and group afterwards.
func (s *Server[L]) Prepare(v Service, change *Listening[L]) (apply func(), err error) {
	if err := v.validate(); err != nil {
		return nil, err
	}
	if s.doors.Closed() || s.closing.Load() {
		return nil, errors.New(s.key + " does not accept MTAs any more")
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

// relisten lets those use the files of UNIX sockets who may now, and returns what changes the doors.
func (s *Server[L]) relisten(change *Listening[L]) (apply func(), err error) {
	kept := map[*front.Door[L]]*L{}
	sameAddress := func(now *L, next L) bool { return (*now).Common().Address == next.Common().Address }
	for d, entry := range front.Match(s.doors, change.Entries, sameAddress) {
		if err := readmit((*d.Config()).Common(), entry.Common()); err != nil {
			for d, entry := range kept {
				err = errors.Join(err, readmit((*entry).Common(), (*d.Config()).Common()))
			}
			return nil, fmt.Errorf("%s: %w", s.key, err)
		}
		kept[d] = &entry
	}
	return func() { s.doors.Change(kept, doorsOf(change.Added)) }, nil
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
