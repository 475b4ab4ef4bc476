package journal

import (
	"context"
	"time"
)

// maxConfirmations bounds how many confirmations are remembered for one query.
const maxConfirmations = 5_000_000

// confirm finds out which of the transactions in question have been confirmed. A confirmation is an entry of its own,
// behind that of its transaction and perhaps in another block or file.
func (s *search) confirm(ctx context.Context) error {
	look := *s
	look.confirmed = map[string]time.Time{}
	look.Newest, look.Follow, look.Confirmations = false, false, false
	if s.ID == "" && len(s.keys) > 0 {
		if err := s.keysOfConfirmations(ctx, &look); err != nil || len(look.keys) == 0 {
			return err
		}
	}
	if !look.Until.IsZero() {
		look.Until = look.Until.Add(confirmTime)
	}
	s.confirmed = look.confirmed
	return look.confirmations(ctx)
}

// keysOfConfirmations finds the ids to look for where the query is for an address or a client: confirmations are kept
// under the id alone.
func (s *search) keysOfConfirmations(ctx context.Context, look *search) error {
	found := &search{Query: s.Query, reader: s.reader, keys: s.keys}
	look.keys = nil
	found.yield = func(e *Entry) bool {
		look.keys = append(look.keys, hashKey(idKey, sessionOf(e.ID)))
		return len(look.keys) < maxConfirmations
	}
	found.Newest, found.Follow = false, false
	return found.forwards(ctx)
}

func (s *search) confirmations(ctx context.Context) error {
	files, err := s.files()
	if err != nil {
		return err
	}
	for _, file := range files {
		s.reader.closeFile(file.number)
		more, err := s.file(ctx, file, func(f *openFile, b blockInfo) bool {
			s.confirmationsIn(f.unpack(b))
			return len(s.confirmed) < maxConfirmations
		})
		s.reader.closeFile(file.number)
		if !more || err != nil {
			return err
		}
	}
	return nil
}

func (s *search) confirmationsIn(k *block) {
	if k == nil {
		return
	}
	u := k.entries
	for range k.count {
		if p := u.part(); p.peekKind() == confirmationEntry {
			if _, c := k.entry(&p, nil); !k.garbled {
				s.confirmed[c.id] = c.at
			}
		}
	}
}
