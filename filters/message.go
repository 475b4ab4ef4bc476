package filters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
)

// Sizes of the pieces of memory that a message is kept in. Most mail fits the first; a read from a socket is worth its
// system call when there is at least minSpace to read into.
const (
	firstChunk = 8 << 10
	chunkSize  = 64 << 10
	minSpace   = 1 << 10
)

var (
	firstChunks = sync.Pool{New: func() any { return new([firstChunk]byte) }}
	chunks      = sync.Pool{New: func() any { return new([chunkSize]byte) }}
)

// ErrSpillFull says that large messages have used up the space for them: the client should come back (452 4.3.1).
var ErrSpillFull = errors.New("no space left for large messages")

// ErrSpillRead says that the file of a large message cannot be read back: nobody gets it, and the client should come back.
var ErrSpillRead = errors.New("the file of a large message cannot be read back")

var (
	errEnded    = errors.New("the message has ended")
	errReleased = errors.New("the message was released")
)

// Spill makes the temporary files that hold what does not fit in memory, within a bounded total. It is safe for
// concurrent use.
type Spill interface {
	// Create returns an unlinked file.
	Create() (SpillFile, error)
	// Reserve claims n bytes of the bounded total; false when it is full.
	Reserve(n int64) bool
	// Unreserve gives n bytes back.
	Unreserve(n int64)
}

// SpillFile is the part of *os.File that a message needs.
type SpillFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// Message is a message while it arrives and after: bytes that are only ever appended, by one writer, and read by many
// while they come. Small ones are in memory; of larger ones, what goes beyond the limit is in a file.
//
// The front end's session owns a message: it alone calls Space, Allow, Commit, Write, Complete, Abort and Release, and it
// calls Release when everybody whom it has handed the message to has stopped reading. All other methods are safe for
// concurrent use.
type Message struct {
	memory int64
	spill  Spill

	scratch *[chunkSize]byte // the writer's alone: bytes on their way to the file; nil while all is in memory

	mu     sync.Mutex // guards the fields below
	grown  sync.Cond  // of mu: size, ended or err has changed, or a reader's context has ended
	chunks []chunk
	file   SpillFile // nil while all is in memory
	inFile int64     // where the file's part begins; MaxInt64 while all is in memory
	size   int64
	ended  bool
	err    error // why it ended early
	users  int   // calls that read or wait

	head headerScan
}

// chunk is a piece of memory whose first byte is the message's byte start. Bytes below Message.size are never written
// again, so they are read without the lock.
type chunk struct {
	start int64
	data  []byte
}

// NewMessage makes an empty message. memory is how many bytes it may keep in memory (rounded up to whole chunks, so up
// to 64 KiB more); the rest goes to spill. Without a spill there is no more than that.
func NewMessage(memory int64, spill Spill) *Message {
	m := &Message{memory: memory, spill: spill, inFile: math.MaxInt64}
	m.grown.L = &m.mu
	return m
}

// Space returns free room at the end to read into; at least 1 KiB. It blocks on nothing. The room is the caller's until
// the next call of Commit, Complete, Abort or Release.
func (m *Message) Space() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.scratch != nil {
		return m.scratch[:]
	}
	if n := len(m.chunks); n > 0 {
		last := m.chunks[n-1]
		if room := last.data[m.size-last.start:]; len(room) >= minSpace {
			return room
		}
	}
	if m.size >= m.memory {
		m.scratch = chunks.Get().(*[chunkSize]byte)
		return m.scratch[:]
	}
	c := chunk{start: m.size}
	if len(m.chunks) == 0 {
		c.data = firstChunks.Get().(*[firstChunk]byte)[:]
	} else {
		c.data = chunks.Get().(*[chunkSize]byte)[:]
	}
	m.chunks = append(m.chunks, c)
	return c.data
}

// Allow raises how many bytes the message may keep in memory. What has gone to the file already stays there, and so does
// all behind it. Only the writer calls it.
func (m *Message) Allow(memory int64) { m.memory = max(m.memory, memory) }

// Commit appends the first n bytes of what Space returned and wakes the readers. After an error, [ErrSpillFull] or one
// of the file, nothing is appended and the message is of no more use: Abort it, and read the rest of the data all the
// same.
func (m *Message) Commit(n int) error {
	if n == 0 {
		return nil
	}
	if m.scratch != nil {
		if err := m.writeFile(m.scratch[:n]); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return errEnded
	}
	m.size += int64(n)
	m.grown.Broadcast()
	return nil
}

// writeFile appends p to the file. It works without the lock: readers go no further than size, and nobody else writes.
func (m *Message) writeFile(p []byte) error {
	if m.spill == nil || !m.spill.Reserve(int64(len(p))) {
		return ErrSpillFull
	}
	if m.file == nil {
		file, err := m.spill.Create()
		if err != nil {
			m.spill.Unreserve(int64(len(p)))
			return fmt.Errorf("create a file for a large message: %w", err)
		}
		m.mu.Lock()
		m.file, m.inFile = file, m.size
		m.mu.Unlock()
	}
	if _, err := m.file.WriteAt(p, m.size-m.inFile); err != nil {
		m.spill.Unreserve(int64(len(p)))
		return fmt.Errorf("write to the file of a large message: %w", err)
	}
	return nil
}

// Write appends p.
func (m *Message) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		n := copy(m.Space(), p[written:])
		if err := m.Commit(n); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// Complete ends the message: readers get io.EOF behind its last byte.
func (m *Message) Complete() { m.end(nil) }

// Abort ends the message early: readers get err at once. A message that has ended already is not changed.
func (m *Message) Abort(err error) { m.end(err) }

func (m *Message) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended {
		m.ended, m.err = true, err
		m.grown.Broadcast()
	}
	m.dropScratch()
}

func (m *Message) dropScratch() {
	if m.scratch != nil {
		chunks.Put(m.scratch)
		m.scratch = nil
	}
}

// Size is the number of bytes so far.
func (m *Message) Size() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size
}

// Release frees memory and file; a header that was returned stays valid. All readers must be done: it panics if one is
// at work or waits, since the memory would turn into another message under its eyes. Reading after Release fails.
func (m *Message) Release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users > 0 {
		panic("filters: a message is released while it is being read")
	}
	for i, c := range m.chunks {
		if i == 0 {
			firstChunks.Put((*[firstChunk]byte)(c.data))
		} else {
			chunks.Put((*[chunkSize]byte)(c.data))
		}
	}
	m.dropScratch()
	if m.file != nil {
		m.file.Close() // it has no name: nothing is left of it, whatever the outcome
		m.spill.Unreserve(m.size - m.inFile)
	}
	m.chunks, m.file = nil, nil
	m.ended, m.err = true, errReleased
}

// use waits until there are more than pos bytes or the message has ended, and counts the caller as a user until it
// calls done. Without an error size is what there is.
func (m *Message) use(ctx context.Context, pos int64) (size int64, ended bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users++
	if m.size <= pos && !m.ended && ctx.Err() == nil {
		stop := context.AfterFunc(ctx, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.grown.Broadcast()
		})
		defer stop()
		for m.size <= pos && !m.ended && ctx.Err() == nil {
			m.grown.Wait()
		}
	}
	if err = m.err; err == nil {
		err = ctx.Err()
	}
	return m.size, m.ended, err
}

func (m *Message) done() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users--
}
