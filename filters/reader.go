package filters

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
)

// MessageReader reads a [Message] from its start, waiting for bytes that have not arrived. It belongs to one goroutine;
// a message may have many of them.
type MessageReader struct {
	ctx context.Context
	m   *Message
	pos int64
}

// Reader returns a new reader at the start of the message. It gives up with ctx's error when ctx ends, and with Abort's
// when the message ends early.
func (m *Message) Reader(ctx context.Context) *MessageReader { return &MessageReader{ctx: ctx, m: m} }

// Read reads what is there, waiting for at least one byte; io.EOF when the message is complete.
func (r *MessageReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	size, _, err := r.m.use(r.ctx, r.pos)
	defer r.m.done()
	if err != nil {
		return 0, err
	}
	if r.pos == size {
		return 0, io.EOF
	}
	n, err := r.m.readAt(p[:min(int64(len(p)), size-r.pos)], r.pos)
	r.pos += int64(n)
	return n, err
}

// WriteTo writes everything up to the end of the message to w, piece by piece as it arrives. What is in memory is not
// copied; w must not keep it.
func (r *MessageReader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		size, _, err := r.m.use(r.ctx, r.pos)
		n := int64(0)
		if err == nil {
			n, err = r.m.writeRange(w, r.pos, size)
		}
		r.m.done()
		r.pos += n
		written += n
		if err != nil {
			return written, err
		}
		if n == 0 {
			return written, nil
		}
	}
}

// WriteRange writes the bytes from start up to end to w. It is for complete messages; w must not keep what it gets. To a
// TCP connection, what is in memory goes by one writev.
func (m *Message) WriteRange(w io.Writer, start, end int64) (int64, error) {
	size, ended, err := m.use(context.Background(), -1)
	defer m.done()
	switch {
	case err != nil:
		return 0, err
	case !ended:
		return 0, errors.New("the message is not complete")
	case start < 0 || start > end || end > size:
		return 0, errors.New("the range is not within the message")
	}
	return m.writeRange(w, start, end)
}

// writeRange writes bytes that have arrived. The caller is a user.
func (m *Message) writeRange(w io.Writer, start, end int64) (written int64, err error) {
	if buffers := m.buffers(start, end); len(buffers) == 1 {
		n, err := w.Write(buffers[0])
		written = int64(n)
		if err != nil {
			return written, err
		}
	} else if len(buffers) > 1 {
		unsent := buffers // escapes to the heap, only here
		if written, err = unsent.WriteTo(w); err != nil {
			return written, err
		}
	}
	if start+written == end {
		return written, nil
	}
	buffer := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(buffer)
	for start+written < end {
		n, err := m.readAt(buffer[:min(chunkSize, end-start-written)], start+written)
		if err == nil {
			n, err = w.Write(buffer[:n])
			written += int64(n)
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// buffers returns the part of start to end that is in memory.
func (m *Message) buffers(start, end int64) net.Buffers {
	m.mu.Lock()
	defer m.mu.Unlock()
	end = min(end, m.inFile)
	if start >= end {
		return nil
	}
	first := m.chunkAt(start)
	last := m.chunkAt(end - 1)
	buffers := make(net.Buffers, 0, last-first+1)
	for i := first; i <= last; i++ {
		piece := m.piece(i, start, end)
		buffers = append(buffers, piece)
		start += int64(len(piece))
	}
	return buffers
}

// readAt reads bytes that have arrived and returns at least one. The caller is a user.
func (m *Message) readAt(p []byte, pos int64) (int, error) {
	m.mu.Lock()
	if pos < m.inFile {
		piece := m.piece(m.chunkAt(pos), pos, min(pos+int64(len(p)), m.inFile))
		m.mu.Unlock()
		return copy(p, piece), nil
	}
	file, offset := m.file, pos-m.inFile
	m.mu.Unlock()
	n, err := file.ReadAt(p, offset)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF // somebody has cut the file
	}
	return n, fmt.Errorf("%w: %w", ErrSpillRead, err)
}

// first returns what the first chunk holds of the message's first size bytes, nothing if they are in the file. The caller
// is a user.
func (m *Message) first(size int64) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.chunks) == 0 {
		return nil
	}
	return m.piece(0, 0, min(size, m.inFile, firstChunk))
}

// chunkAt is the index of the chunk that holds the byte at pos. The caller holds the lock.
func (m *Message) chunkAt(pos int64) int {
	return sort.Search(len(m.chunks), func(i int) bool { return m.chunks[i].start > pos }) - 1
}

// piece is what chunk i holds from start up to end. The caller holds the lock.
func (m *Message) piece(i int, start, end int64) []byte {
	c := m.chunks[i]
	if i+1 < len(m.chunks) {
		end = min(end, m.chunks[i+1].start)
	}
	return c.data[start-c.start : end-c.start : end-c.start]
}
