package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"gatepost/filters"
	"gatepost/proxy/store"
)

// A state file is lines of JSON: a head, all marks, all standings, and an end that tells a whole file from a part of one.
// Fields that a reader does not know are passed over; what it must not pass over raises stateFormat.
const (
	stateFormat  = 1
	maxStateLine = 64 << 10 // bytes; a key has at most 512
)

// stateHead is the first line.
type stateHead struct {
	Format  int       `json:"gatepost_state"`
	Written time.Time `json:"written"`
	By      string    `json:"by"`    // the release
	Marks   int64     `json:"marks"` // about
}

// stateLine is every other line: a mark of a space, a standing, or the end.
type stateLine struct {
	Space    string            `json:"space,omitempty"`
	Key      string            `json:"key,omitempty"`
	Bytes    []byte            `json:"key_base64,omitempty"` // instead of a key that is not UTF-8
	First    time.Time         `json:"first,omitzero"`
	Last     time.Time         `json:"last,omitzero"`
	Passed   time.Time         `json:"passed,omitzero"`
	Expires  time.Time         `json:"expires,omitzero"`
	Attempts uint32            `json:"attempts,omitempty"`
	Standing *filters.Standing `json:"standing,omitempty"`
	End      *stateEnd         `json:"end,omitempty"`
}

// stateEnd is what the last line says of those before it.
type stateEnd struct {
	Marks     int `json:"marks"`
	Standings int `json:"standings"`
}

func (l *stateLine) setKey(key string) {
	if utf8.ValidString(key) {
		l.Key = key
	} else {
		l.Bytes = []byte(key)
	}
}

func (l *stateLine) key() string {
	if l.Bytes != nil {
		return string(l.Bytes)
	}
	return l.Key
}

func (l *stateLine) mark() filters.Mark {
	return filters.Mark{First: l.First, Last: l.Last, Passed: l.Passed, Expires: l.Expires, Attempts: l.Attempts}
}

// check tells what keeps a line from being taken.
func (l *stateLine) check() error {
	switch {
	case l.End != nil:
		return nil
	case l.Key != "" && l.Bytes != nil:
		return errors.New("it has two keys")
	case l.Standing != nil:
		if l.Space != "" || l.key() == "" {
			return errors.New("a standing has a key and no space")
		}
		for _, n := range [...]float64{l.Standing.Delivered, l.Standing.Refused, l.Standing.Unknown, l.Standing.Trapped} {
			if !(n >= 0 && n <= filters.MaxCount) {
				return fmt.Errorf("%v is no count of a standing", n)
			}
		}
		if l.Standing.HalfLife < time.Second || !isMoment(l.Standing.At) {
			return errors.New("a standing has a moment, and a half-life of a second or more")
		}
		return nil
	case !isMoment(l.Expires) || !isMoment(l.First) || !isMoment(l.Last) || !l.Passed.IsZero() && !isMoment(l.Passed):
		return errors.New("a mark has a space, a key, and the times of its first and latest use and of its end")
	}
	return store.CheckSpace(l.Space)
}

// isMoment keeps out what stores cannot keep: they count milliseconds from 1970.
func isMoment(t time.Time) bool { return t.Year() >= 1970 && t.Year() < 10000 && t.UnixMilli() > 0 }

// stateWriter is a file that state is copied to.
type stateWriter struct {
	copyEnd // what a file cannot do
	w       *bufio.Writer
	wrote   stateEnd
}

// newStateWriter writes the head.
func newStateWriter(w io.Writer, now time.Time, about int64) (*stateWriter, error) {
	s := &stateWriter{w: bufio.NewWriterSize(w, 256<<10)}
	return s, s.write(stateHead{stateFormat, now.UTC().Truncate(time.Second), version, about})
}

func (s *stateWriter) write(line any) error {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = s.w.Write(append(text, '\n'))
	}
	return err
}

func (s *stateWriter) merge(_ context.Context, space string, keys []string, marks []filters.Mark) error {
	for i, m := range marks {
		l := stateLine{Space: space, First: m.First, Last: m.Last, Passed: m.Passed, Expires: m.Expires, Attempts: m.Attempts}
		l.setKey(keys[i])
		if err := s.write(l); err != nil {
			return err
		}
		s.wrote.Marks++
	}
	return nil
}

// mergeStandings writes standings as stores keep them: what is still in memory is not rounded yet.
func (s *stateWriter) mergeStandings(_ context.Context, keys []string, standings []filters.Standing) error {
	for i := range standings {
		rounded, ok := store.ParseStanding(store.AppendStanding(nil, standings[i]))
		if !ok {
			continue
		}
		l := stateLine{Standing: &rounded}
		l.setKey(keys[i])
		if err := s.write(l); err != nil {
			return err
		}
		s.wrote.Standings++
	}
	return nil
}

// finish writes the end.
func (s *stateWriter) finish() error {
	return errors.Join(s.write(stateLine{End: &s.wrote}), s.w.Flush())
}

// stateReader is a file that state is copied from.
type stateReader struct {
	copyEnd // what a file cannot do
	head    stateHead
	lines   *bufio.Scanner
	number  int        // of the line
	next    *stateLine // read, and not taken yet
	read    stateEnd
	ended   bool
}

// newStateReader reads the head.
func newStateReader(r io.Reader) (*stateReader, error) {
	s := &stateReader{lines: bufio.NewScanner(r)}
	s.lines.Buffer(make([]byte, 0, 4096), maxStateLine)
	text, err := s.line()
	if err != nil {
		return nil, err
	}
	if text == nil || json.Unmarshal(text, &s.head) != nil || s.head.Format < 1 {
		return nil, errors.New("this is no file of gatepost state export: its first line does not say so")
	}
	if s.head.Format > stateFormat {
		return nil, fmt.Errorf("the file has format %d and was written by gatepost %.40q; this release knows formats up to %d: import it with that release",
			s.head.Format, s.head.By, stateFormat)
	}
	return s, nil
}

// line returns the next line, nil at the end of the file.
func (s *stateReader) line() ([]byte, error) {
	s.number++
	if s.lines.Scan() {
		return s.lines.Bytes(), nil
	}
	if err := s.lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d is longer than %d bytes: nothing from there on was taken", s.number, maxStateLine)
	} else if err != nil {
		return nil, fmt.Errorf("line %d: %w", s.number, err)
	}
	return nil, nil
}

// peek returns the next line and leaves it there; nil behind the last one.
func (s *stateReader) peek() (*stateLine, error) {
	if s.next != nil || s.ended {
		return s.next, nil
	}
	text, err := s.line()
	if err != nil {
		return nil, err
	}
	if text == nil {
		return nil, fmt.Errorf("the file ends after line %d without its last line: it is a part of an export; what is in it was taken", s.number-1)
	}
	l := new(stateLine)
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("line %d is not understood, and nothing from there on was taken: %w", s.number, err)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("line %d is not understood, and nothing from there on was taken: %w", s.number, err)
	}
	if l.End != nil {
		s.ended = true
		if *l.End != s.read {
			return nil, fmt.Errorf("lines are missing: the last one speaks of %d marks and %d standings, there are %d and %d; those were taken",
				l.End.Marks, l.End.Standings, s.read.Marks, s.read.Standings)
		}
		return nil, nil
	}
	s.next = l
	return l, nil
}

func (s *stateReader) size(context.Context) (int64, error) { return max(s.head.Marks, 0), nil }

func (s *stateReader) each(ctx context.Context, yield func(space, key string, m filters.Mark) bool) error {
	for ctx.Err() == nil {
		l, err := s.peek()
		if err != nil || l == nil || l.Standing != nil {
			return err
		}
		s.next = nil
		s.read.Marks++
		if !yield(l.Space, l.key(), l.mark()) {
			return nil
		}
	}
	return ctx.Err()
}

func (s *stateReader) eachStanding(ctx context.Context, yield func(key string, s filters.Standing) bool) error {
	for ctx.Err() == nil {
		l, err := s.peek()
		if err != nil || l == nil {
			return err
		}
		if l.Standing == nil {
			return fmt.Errorf("line %d is not understood, and nothing from there on was taken: a mark behind the standings", s.number)
		}
		s.next = nil
		s.read.Standings++
		if !yield(l.key(), *l.Standing) {
			return nil
		}
	}
	return ctx.Err()
}
