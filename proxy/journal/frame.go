package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// A segment is a sequence of frames: one that says what the file is, then blocks of entries. A frame is
//
//	magic         4 bytes
//	kind          1 byte
//	-             1 byte, 0
//	head length   2 bytes, little endian, as all numbers here
//	body length   4 bytes
//	body checksum 4 bytes, CRC-32C
//	head checksum 4 bytes, CRC-32C of all of the above but the magic, and of the head
//	head          what a reader wants to know before it unpacks the body
//	body
//
// The magic begins with a byte that is no UTF-8, and lets a reader find the next frame behind one that is damaged.
const (
	frameMagic = "\x8fGPJ"
	framePlain = 20 // bytes before the head

	fileFrame  = 1
	blockFrame = 2

	maxHead = 1<<16 - 1
	maxBody = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame appends a frame; head and body are within their limits.
func appendFrame(dst []byte, kind byte, head, body []byte) []byte {
	start := len(dst)
	dst = append(dst, frameMagic...)
	dst = append(dst, kind, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(head)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, castagnoli))
	sum := crc32.Update(crc32.Checksum(dst[start+len(frameMagic):], castagnoli), castagnoli, head)
	dst = binary.LittleEndian.AppendUint32(dst, sum)
	return append(append(dst, head...), body...)
}

// frame is what the first bytes of one say.
type frame struct {
	kind    byte
	head    int // length
	body    int // length
	bodySum uint32
	headSum uint32
	partial uint32 // checksum of what is before the head
}

func (f *frame) size() int64 { return framePlain + int64(f.head) + int64(f.body) }

var (
	errNoFrame  = errors.New("no frame begins here")
	errHeadSum  = errors.New("the checksum of a frame's head is wrong")
	errBodySum  = errors.New("the checksum of a frame's body is wrong")
	errTooLarge = errors.New("a frame claims to be too large")
)

// parseFrame reads the framePlain bytes at the start of a frame.
func parseFrame(b []byte) (f frame, err error) {
	if string(b[:len(frameMagic)]) != frameMagic {
		return frame{}, errNoFrame
	}
	f = frame{
		kind:    b[4],
		head:    int(binary.LittleEndian.Uint16(b[6:])),
		body:    int(binary.LittleEndian.Uint32(b[8:])),
		bodySum: binary.LittleEndian.Uint32(b[12:]),
		headSum: binary.LittleEndian.Uint32(b[16:]),
		partial: crc32.Checksum(b[4:16], castagnoli),
	}
	if f.body > maxBody {
		return frame{}, errTooLarge
	}
	return f, nil
}

func (f *frame) checkHead(head []byte) error {
	if crc32.Update(f.partial, castagnoli, head) != f.headSum {
		return errHeadSum
	}
	return nil
}

func (f *frame) checkBody(body []byte) error {
	if crc32.Checksum(body, castagnoli) != f.bodySum {
		return errBodySum
	}
	return nil
}
