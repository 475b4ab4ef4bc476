package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-milter"
)

// Codes that the library has no names for.
const (
	CodeUnknown milter.Code = 'U' // SMFIC_UNKNOWN: an SMTP command that the MTA does not know

	ActProgress   milter.ActionCode = 'p' // SMFIR_PROGRESS: not ready, but alive
	ActShutdown   milter.ActionCode = '4' // SMFIR_SHUTDOWN: 421
	ActConnFail   milter.ActionCode = 'f' // SMFIR_CONN_FAIL
	ActAddRcptPar milter.ActionCode = '2' // SMFIR_ADDRCPT_PAR
)

const (
	// MaxBody is the largest chunk of a body that is taken: what an MTA may send that was asked for the largest ones
	// (SMFIP_MDS_1M). Others send 65,535 bytes at most.
	MaxBody = 1 << 20
	// MaxData is the most data that any other frame may have: a header field of 256 KiB, its name, and some room.
	MaxData = 300 << 10

	headSize = 5
	readSize = 8 << 10
	// step bounds what is allocated for data that has only been announced.
	step = 32 << 10
)

var (
	errEmpty = errors.New("milter: a frame of length 0")
	errTorn  = errors.New("milter: the connection ended within a frame")
)

// Reader reads frames. It holds no more memory than the data that has arrived.
type Reader struct {
	r    *bufio.Reader
	left int    // bytes of the present frame's data that were not read
	data []byte // of the present frame
}

// NewReader reads from r through a buffer.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, readSize)} }

// Buffered tells whether the next frame, or a part of it, has arrived already.
func (r *Reader) Buffered() bool { return r.r.Buffered() > r.left }

// Next goes to the next frame; data of the present one that was not read is skipped. io.EOF: the connection ended
// between two frames.
func (r *Reader) Next() (code byte, size int, err error) {
	if err := r.skip(); err != nil {
		return 0, 0, err
	}
	head, err := r.r.Peek(headSize)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = errTorn
		}
		return 0, 0, err
	}
	length := binary.BigEndian.Uint32(head)
	code = head[4]
	limit := MaxData
	if code == byte(milter.CodeBody) || code == byte(milter.CodeEOB) {
		limit = MaxBody
	}
	switch {
	case length == 0:
		return 0, 0, errEmpty
	case length-1 > uint32(limit):
		return 0, 0, fmt.Errorf("milter: a frame %q of %d bytes, more than %d", code, length-1, limit)
	}
	r.r.Discard(headSize)
	r.left = int(length) - 1
	return code, r.left, nil
}

func (r *Reader) skip() error {
	n, err := r.r.Discard(r.left)
	r.left -= n
	return torn(err)
}

func torn(err error) error {
	if err == io.EOF {
		return errTorn
	}
	return err
}

// Data returns what is left of the present frame's data, valid until Next.
func (r *Reader) Data() ([]byte, error) {
	if r.left <= r.r.Buffered() { // no copy
		data, err := r.r.Peek(r.left)
		r.r.Discard(len(data))
		r.left = 0
		return data, err
	}
	if cap(r.data) > step { // what one large frame has taken is not kept for the small ones that follow
		r.data = nil
	}
	r.data = r.data[:0]
	for r.left > 0 {
		n := min(r.left, step)
		if free := cap(r.data) - len(r.data); free < n {
			r.data = append(make([]byte, 0, min(2*cap(r.data)+n, len(r.data)+r.left)), r.data...)
		}
		room := r.data[len(r.data) : len(r.data)+n]
		n, err := io.ReadFull(r.r, room)
		r.data = r.data[:len(r.data)+n]
		r.left -= n
		if err != nil {
			if err == io.ErrUnexpectedEOF {
				err = io.EOF
			}
			return nil, torn(err)
		}
	}
	return r.data, nil
}

// Read reads from the present frame's data; io.EOF at its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, torn(err)
}

// Append appends a frame whose data are the parts, as they are.
func Append[T string | []byte](dst []byte, code byte, parts ...T) []byte {
	dst, start := begin(dst, code)
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return finish(dst, start)
}

func begin(dst []byte, code byte) (_ []byte, start int) {
	return append(dst, 0, 0, 0, 0, code), len(dst)
}

func finish(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}
