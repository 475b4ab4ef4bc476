package journal

import (
	"bytes"
	"errors"
	"io"
)

// errTail tells that the last frame of a file is not all there: the process that writes it has not come to its end, or
// never will.
var errTail = errors.New("the end of the file is torn")

// scanner goes from frame to frame of a file, over what is damaged.
type scanner struct {
	file   io.ReaderAt
	size   int64
	at     int64 // of the next frame
	window []byte
	start  int64                                     // of the window
	damage func(offset, length int64, problem error) // told of what was passed over
}

const windowSize = 256 << 10

// bytes returns n bytes of the file at offset, good until the next call. They must be there.
func (s *scanner) bytes(offset int64, n int) ([]byte, error) {
	if offset < s.start || offset+int64(n) > s.start+int64(len(s.window)) {
		want := int(min(int64(max(n, windowSize)), s.size-offset))
		if cap(s.window) < want {
			s.window = make([]byte, want)
		}
		s.window = s.window[:want]
		s.start = offset
		if read, err := s.file.ReadAt(s.window, offset); read < want {
			s.window = s.window[:0]
			return nil, errors.Join(err, io.ErrUnexpectedEOF)
		}
	}
	from := int(offset - s.start)
	return s.window[from : from+n], nil
}

// next finds the next frame whose head is good, and returns where it begins. The head is good until the next call. At the
// end it is io.EOF, or errTail where a frame begins that is not all there.
func (s *scanner) next() (f frame, head []byte, offset int64, err error) {
	lost := int64(-1) // where what was passed over begins
	var problem error
	for {
		offset = s.at
		f, head, err = s.frame(offset)
		if err == nil {
			s.at += f.size()
			s.report(lost, offset, problem)
			return f, head, offset, nil
		}
		var fault *ioFault
		if err == io.EOF && problem == errTail { // a frame behind it would have shown that it is damaged and no tail
			s.at = lost
			return frame{}, nil, lost, errTail
		}
		if err == io.EOF || errors.As(err, &fault) {
			s.report(lost, s.size, problem)
			return frame{}, nil, offset, err
		}
		if lost < 0 {
			lost, problem = offset, err
		}
		if s.at, err = s.findMagic(offset + 1); err != nil {
			return frame{}, nil, offset, err
		}
	}
}

func (s *scanner) report(from, to int64, problem error) {
	if from >= 0 && to > from && s.damage != nil {
		s.damage(from, to-from, problem)
	}
}

// ioFault is an error of the disk, as opposed to what stands on it.
type ioFault struct{ error }

func (e *ioFault) Unwrap() error { return e.error }

func (s *scanner) frame(at int64) (f frame, head []byte, err error) {
	left := s.size - at
	switch {
	case left == 0:
		return frame{}, nil, io.EOF
	case left < framePlain:
		return frame{}, nil, errTail
	}
	plain, err := s.bytes(at, framePlain)
	if err != nil {
		return frame{}, nil, &ioFault{err}
	}
	if f, err = parseFrame(plain); err != nil {
		return frame{}, nil, err
	}
	if left < framePlain+int64(f.head) {
		return frame{}, nil, errTail
	}
	if head, err = s.bytes(at+framePlain, f.head); err != nil {
		return frame{}, nil, &ioFault{err}
	}
	if err := f.checkHead(head); err != nil {
		return frame{}, nil, err
	}
	if left < f.size() {
		return frame{}, nil, errTail
	}
	return f, head, nil
}

// body reads the body of a frame that begins at offset; it is good until the next call.
func (s *scanner) body(f frame, offset int64) ([]byte, error) {
	body, err := s.bytes(offset+framePlain+int64(f.head), f.body)
	if err != nil {
		return nil, &ioFault{err}
	}
	return body, f.checkBody(body)
}

// findMagic returns the place of the next frame, or the file's end.
func (s *scanner) findMagic(from int64) (int64, error) {
	for from < s.size {
		n := int(min(windowSize, s.size-from))
		b, err := s.bytes(from, n)
		if err != nil {
			return 0, &ioFault{err}
		}
		if i := bytes.Index(b, []byte(frameMagic)); i >= 0 {
			return from + int64(i), nil
		}
		if n < len(frameMagic) {
			break
		}
		from += int64(n - len(frameMagic) + 1)
	}
	return s.size, nil
}
