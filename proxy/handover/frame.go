package handover

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"io"
)

// Bounds of a frame.
const (
	maxFrame = 16 << 20 // bytes behind the length: a large block of the journal, or all that is open
	maxName  = 64
)

// kind is what a frame is.
type kind uint8

const (
	call    kind = 1 // is answered with the same number
	answer  kind = 2 // the last one
	failure kind = 3 // the last one: the body is the error's text
	item    kind = 4 // one of several answers
	notice  kind = 5 // is not answered; notices arrive in order
	cancel  kind = 6 // the caller does not wait any more
)

// frame is what goes over the link at a time.
type frame struct {
	number uint64 // of the call
	kind   kind
	name   string // of what is called
	body   []byte
}

// append encodes a frame: length, number, kind, length of the name, name, body.
func (f *frame) append(dst []byte) ([]byte, error) {
	size := 8 + 1 + 1 + len(f.name) + len(f.body)
	if size > maxFrame || len(f.name) > maxName {
		return dst, fmt.Errorf("%s: %d bytes are too much for one frame", f.name, len(f.body))
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = binary.BigEndian.AppendUint64(dst, f.number)
	dst = append(dst, byte(f.kind), byte(len(f.name)))
	dst = append(dst, f.name...)
	return append(dst, f.body...), nil
}

// readFrame reads the next frame.
func readFrame(r io.Reader) (f frame, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 10 || size > maxFrame {
		return f, fmt.Errorf("a frame of %d bytes", size)
	}
	content, err := io.ReadAll(io.LimitReader(r, int64(size))) // grows with what comes
	if err == nil && len(content) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return f, err
	}
	f.number, f.kind = binary.BigEndian.Uint64(content), kind(content[8])
	name := int(content[9])
	if f.kind < call || f.kind > cancel || name > maxName || 10+name > len(content) {
		return f, fmt.Errorf("a frame of kind %d with a name of %d bytes", f.kind, name)
	}
	f.name, f.body = string(content[10:10+name]), content[10+name:]
	return f, nil
}

// encode is the body of a value; nil has none.
func encode(value any) ([]byte, error) {
	if value == nil {
		return nil, nil
	}
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(value)
	return b.Bytes(), err
}

// Decode reads a body into value, a pointer. Fields that it does not know are passed over.
func Decode(body []byte, value any) error {
	return gob.NewDecoder(bytes.NewReader(body)).Decode(value)
}
