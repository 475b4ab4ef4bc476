package proxy

import (
	"io"

	"gatepost/filters"
	"gatepost/policy"
)

// excerpt is a complete message without some ranges of its bytes, and with others in between.
type excerpt struct {
	message *filters.Message
	edits   policy.Edits
}

// end is where the message's own bytes end.
func (e excerpt) end() int64 {
	if e.edits.Body != nil {
		return e.edits.BodyAt
	}
	return e.message.Size()
}

func (e excerpt) size() int64 {
	size := e.end() + int64(len(e.edits.Body))
	for _, cut := range e.edits.Cut {
		size -= cut.End - cut.Start
	}
	for _, insertion := range e.edits.Insert {
		size += int64(len(insertion.Text))
	}
	return size
}

// WriteTo writes what is left, and what was added.
func (e excerpt) WriteTo(w io.Writer) (written int64, err error) {
	at, inserts := int64(0), e.edits.Insert
	upTo := func(end int64) error {
		for len(inserts) > 0 && inserts[0].At <= end {
			insertion := inserts[0]
			inserts = inserts[1:]
			if insertion.At > at {
				n, err := e.message.WriteRange(w, at, insertion.At)
				written, at = written+n, at+n
				if err != nil {
					return err
				}
			}
			n, err := w.Write(insertion.Text)
			written += int64(n)
			if err != nil {
				return err
			}
		}
		if at >= end {
			return nil
		}
		n, err := e.message.WriteRange(w, at, end)
		written, at = written+n, at+n
		return err
	}
	for _, cut := range e.edits.Cut {
		if err := upTo(cut.Start); err != nil {
			return written, err
		}
		at = cut.End
	}
	if err := upTo(e.end()); err != nil || e.edits.Body == nil {
		return written, err
	}
	n, err := w.Write(e.edits.Body)
	return written + int64(n), err
}
