package journal

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"
)

// packer appends values. Texts go into the block's table, each once, and are referred to by their place in it, 0 for the
// empty one.
type packer struct {
	buf   []byte
	texts textTable
}

func (p *packer) reset() {
	p.buf = p.buf[:0]
	p.texts.reset()
}

// maxText bounds one text. Replies and header fields are bounded far below it where they are made.
const maxText = 16 << 10

func (p *packer) text(s string) {
	if s == "" {
		p.buf = append(p.buf, 0)
		return
	}
	p.unsigned(p.texts.place(s[:min(len(s), maxText)]))
}

func (p *packer) count(n int)       { p.buf = binary.AppendUvarint(p.buf, uint64(n)) }
func (p *packer) unsigned(n uint64) { p.buf = binary.AppendUvarint(p.buf, n) }
func (p *packer) signed(n int64)    { p.buf = binary.AppendVarint(p.buf, n) }

func (p *packer) flag(b bool) {
	if b {
		p.buf = append(p.buf, 1)
	} else {
		p.buf = append(p.buf, 0)
	}
}

// time is in nanoseconds since 1970, and 0 for the zero time.
func (p *packer) time(t time.Time) {
	if t.IsZero() {
		p.signed(0)
		return
	}
	p.signed(t.UnixNano())
}

// number writes a whole one as the even number twice its zigzag code, any other as a 1 and its bits.
func (p *packer) number(n float64) {
	if whole := int64(n); float64(whole) == n && whole > -1<<53 && whole < 1<<53 && !(n == 0 && math.Signbit(n)) {
		p.unsigned(uint64(whole<<1^whole>>63) << 1)
		return
	}
	p.buf = binary.LittleEndian.AppendUint64(append(p.buf, 1), math.Float64bits(n))
}

func (p *packer) address(a netip.Addr) {
	switch {
	case !a.IsValid():
		p.count(0)
	case a.Is4():
		raw := a.As4()
		p.count(len(raw))
		p.buf = append(p.buf, raw[:]...)
	default:
		raw := a.As16()
		p.count(len(raw))
		p.buf = append(p.buf, raw[:]...)
	}
}

func (p *packer) endpoint(a netip.AddrPort) {
	p.address(a.Addr())
	p.count(int(a.Port()))
}

// begin starts a part that a reader can skip without knowing what is in it; end, with what begin returned, closes it.
func (p *packer) begin() int {
	p.buf = append(p.buf, 0)
	return len(p.buf)
}

// end makes room for the length: most parts are shorter than 128 bytes, for which begin has left enough.
func (p *packer) end(start int) {
	n := len(p.buf) - start
	if n < 0x80 {
		p.buf[start-1] = byte(n)
		return
	}
	var length [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(length[:], uint64(n))
	p.buf = append(p.buf, length[1:size]...)
	copy(p.buf[start-1+size:], p.buf[start:start+n])
	copy(p.buf[start-1:], length[:size])
}
