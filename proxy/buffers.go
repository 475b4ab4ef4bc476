package proxy

import (
	"sync"
	"time"

	"gatepost/filters"
	"gatepost/policy/deadline"
)

const (
	// maxLine is the longest command line that can be configured; the input buffer holds two.
	maxLine   = 8 << 10
	inputSize = 2 * maxLine
	// bulkSize is the size of reads of messages that turn out to be large.
	bulkSize = 64 << 10
	// maxReplies and maxDelay are how many bytes of replies may wait to be written together with others, and how long.
	maxReplies = 16 << 10
	maxDelay   = time.Second
)

// buffers are what a session needs only while it runs. Waiting sessions have none.
type buffers struct {
	input []byte // what was read; input[r:w] is not yet dealt with
	r, w  int
	bulk  bool          // input is from bulkInputs
	dry   bool          // the latest read took all there was: the next would find nothing
	out   []byte        // replies that are not yet written
	delay time.Duration // how long the latest reply is to be held back
	since time.Time     // when replies were written last, or the session woke up

	began time.Time         // when the command that is obeyed now had its turn: its budget starts here
	ctx   *deadline.Context // of the latest budget; nil: there is none
	limit filters.Duration  // the budget that ctx stands for
	start time.Time         // when it began

	shown shown // of the session
}

var (
	bufferPool = sync.Pool{New: func() any { return &buffers{out: make([]byte, 0, 1024)} }}
	inputs     = sync.Pool{New: func() any { return new([inputSize]byte) }}
	bulkInputs = sync.Pool{New: func() any { return new([bulkSize]byte) }}
)

// takeBuffers returns buffers with rest as their unread input.
func takeBuffers(rest []byte) *buffers {
	b := bufferPool.Get().(*buffers)
	if b.bulk = len(rest) > inputSize; b.bulk {
		b.input = bulkInputs.Get().(*[bulkSize]byte)[:]
	} else {
		b.input = inputs.Get().(*[inputSize]byte)[:]
	}
	b.r, b.w, b.dry, b.delay = 0, copy(b.input, rest), false, 0
	b.since = time.Now()
	b.began = b.since
	return b
}

// giveBack returns the buffers to the pool, and a copy of the unread input if there is any.
func (b *buffers) giveBack() []byte {
	b.endBudget()
	var rest []byte
	if b.w > b.r {
		rest = append(rest, b.unread()...)
	}
	b.returnInput()
	if cap(b.out) > 2*maxReplies {
		b.out = make([]byte, 0, 1024)
	}
	b.out = b.out[:0]
	bufferPool.Put(b)
	return rest
}

func (b *buffers) returnInput() {
	if b.bulk {
		bulkInputs.Put((*[bulkSize]byte)(b.input))
	} else {
		inputs.Put((*[inputSize]byte)(b.input))
	}
	b.input, b.bulk = nil, false
}

// grow makes the next reads large. The unread input must be used up.
func (b *buffers) grow() {
	if b.bulk {
		return
	}
	b.returnInput()
	b.input, b.bulk = bulkInputs.Get().(*[bulkSize]byte)[:], true
	b.r, b.w = 0, 0
}

// shrink undoes grow when what is unread fits into the smaller buffer.
func (b *buffers) shrink() {
	if !b.bulk || b.w-b.r > inputSize {
		return
	}
	small := inputs.Get().(*[inputSize]byte)[:]
	n := copy(small, b.unread())
	b.returnInput()
	b.input, b.r, b.w = small, 0, n
}

// due tells that the replies shall be written though there is more to obey.
func (b *buffers) due() bool {
	return len(b.out) > maxReplies || len(b.out) > 0 && time.Since(b.since) > maxDelay
}

// endBudget ends the time of what was waited for.
func (b *buffers) endBudget() {
	if b.ctx != nil {
		b.ctx.Cancel()
		b.ctx = nil
	}
}

func (b *buffers) unread() []byte { return b.input[b.r:b.w] }

// space returns room to read into, never empty: a whole line always fits.
func (b *buffers) space() []byte {
	if b.r == b.w {
		b.r, b.w = 0, 0
	} else if b.r > 0 && b.w == len(b.input) {
		b.w = copy(b.input, b.unread())
		b.r = 0
	}
	return b.input[b.w:]
}

// drop forgets the unread input.
func (b *buffers) drop() { b.r, b.w = 0, 0 }
