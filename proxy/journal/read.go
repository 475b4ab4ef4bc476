package journal

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"time"
)

// errGarbled tells that the bytes of a block are not what a packer writes, though their checksum is right.
var errGarbled = errors.New("a block is not what a journal writes")

// unpacker reads what a packer wrote. Once something is wrong it is garbled and every read gives zero. What is missing at
// the end of a part is zero, too: an older release wrote fewer values.
type unpacker struct {
	buf     []byte
	texts   []string
	garbled *bool
}

func (u *unpacker) fail() {
	*u.garbled = true
	u.buf = nil
}

func (u *unpacker) unsigned() uint64 {
	if len(u.buf) == 0 {
		return 0
	}
	if c := u.buf[0]; c < 0x80 {
		u.buf = u.buf[1:]
		return uint64(c)
	}
	n, size := binary.Uvarint(u.buf)
	if size <= 0 {
		u.fail()
		return 0
	}
	u.buf = u.buf[size:]
	return n
}

func (u *unpacker) signed() int64 {
	n := u.unsigned()
	return int64(n>>1) ^ -int64(n&1)
}

func (u *unpacker) flag() bool { return u.unsigned() != 0 }

func (u *unpacker) text() string {
	place := u.unsigned()
	if place == 0 {
		return ""
	}
	if place > uint64(len(u.texts)) {
		u.fail()
		return ""
	}
	return u.texts[place-1]
}

// count reads a number of items that take at least one byte each.
func (u *unpacker) count() int {
	n := u.unsigned()
	if n > uint64(len(u.buf)) {
		u.fail()
		return 0
	}
	return int(n)
}

// small reads a number that fits an int.
func (u *unpacker) small() int {
	n := u.unsigned()
	if n > math.MaxInt32 {
		u.fail()
		return 0
	}
	return int(n)
}

func (u *unpacker) time() time.Time {
	n := u.signed()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func (u *unpacker) number() float64 {
	n := u.unsigned()
	if n&1 == 0 {
		n >>= 1
		return float64(int64(n>>1) ^ -int64(n&1))
	}
	b := u.bytes(8)
	if len(b) < 8 {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

func (u *unpacker) address() netip.Addr {
	switch b := u.bytes(u.small()); len(b) {
	case 0:
		return netip.Addr{}
	case 4:
		return netip.AddrFrom4([4]byte(b))
	case 16:
		return netip.AddrFrom16([16]byte(b))
	default:
		u.fail()
		return netip.Addr{}
	}
}

func (u *unpacker) endpoint() netip.AddrPort {
	a := u.address()
	return netip.AddrPortFrom(a, uint16(u.unsigned()))
}

func (u *unpacker) bytes(n int) []byte {
	if n > len(u.buf) {
		u.fail()
		return nil
	}
	b := u.buf[:n:n]
	u.buf = u.buf[n:]
	return b
}

// part reads what stands between begin and end.
func (u *unpacker) part() unpacker {
	return unpacker{buf: u.bytes(u.count()), texts: u.texts, garbled: u.garbled}
}
