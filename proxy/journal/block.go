package journal

import (
	"encoding/binary"
	"time"

	"gatepost/policy"
	"gatepost/rules"
)

// A block's body, unpacked, is parts, each with its number and its length before it; a reader passes over parts that it
// does not know. Entries refer to texts, shapes and rules by their place in the tables of their block, from 1: so each
// block can be read without any other.
const (
	textsPart   = 1 // all texts
	shapesPart  = 2 // groups of facts: their names and kinds
	rulesPart   = 3
	entriesPart = 4
)

// blockSize is how many bytes of entries make a block full.
const blockSize = 256 << 10

// builder collects the entries of one block.
type builder struct {
	packer            // buf: the entries
	shapes     []byte // refer to the same table of texts, as rules do
	rules      []byte
	blueprint  *blueprint                   // of the record at hand
	blueprints map[*rules.Schema]*blueprint // of a few configurations
	shapeCount uint64
	ruleOf     map[*rules.Rule]uint64
	entries    int
	keys       []uint64
	added      [256]uint64 // of keys, the latest of each of so many kinds
	min, max   int64       // when entries ended
	earliest   int64       // when the first of them began
	disguise   *disguise
	serial     uint64        // of the record at hand
	groups     []packedGroup // of it
}

func newBuilder(d *disguise) *builder {
	return &builder{disguise: d, blueprints: map[*rules.Schema]*blueprint{}, ruleOf: map[*rules.Rule]uint64{}}
}

func (b *builder) reset() {
	b.packer.reset()
	b.shapes, b.rules = b.shapes[:0], b.rules[:0]
	b.shapeCount = 0
	for _, p := range b.blueprints {
		p.nextBlock()
	}
	clear(b.ruleOf)
	b.entries, b.keys = 0, b.keys[:0]
	clear(b.added[:])
	b.min, b.max, b.earliest = 0, 0, 0
	b.disguise.nextBlock()
}

func (b *builder) size() int { return len(b.buf) + len(b.texts.table) + len(b.shapes) + len(b.rules) }

func (b *builder) full() bool { return b.size() >= blockSize }

// span widens the block's times by an entry's.
func (b *builder) span(start, end time.Time) {
	from, to := start.UnixNano(), end.UnixNano()
	if b.entries == 0 {
		b.min, b.max, b.earliest = to, to, from
	}
	b.min, b.max, b.earliest = min(b.min, to), max(b.max, to), min(b.earliest, from)
	b.entries++
}

func (b *builder) key(kind byte, key string) { b.addKey(hashKey(kind, key)) }

// addKey leaves most of those out that are there already: a session's id comes with each of its entries.
func (b *builder) addKey(key uint64) {
	if last := &b.added[key%uint64(len(b.added))]; *last != key || key == 0 {
		*last = key
		b.keys = append(b.keys, key)
	}
}

// appendBody appends the block's body before it is compressed.
func (b *builder) appendBody(dst []byte) []byte {
	part := func(number uint64, count int, content []byte) {
		dst = binary.AppendUvarint(dst, number)
		size := len(binary.AppendUvarint(nil, uint64(count))) + len(content)
		dst = binary.AppendUvarint(dst, uint64(size))
		dst = binary.AppendUvarint(dst, uint64(count))
		dst = append(dst, content...)
	}
	part(textsPart, int(b.texts.count), b.texts.table)
	part(shapesPart, int(b.shapeCount), b.shapes)
	part(rulesPart, len(b.ruleOf), b.rules)
	part(entriesPart, b.entries, b.buf)
	return dst
}

// appendHead appends what a reader wants to know before it unpacks: times, numbers, the filter of keys.
func (b *builder) appendHead(dst []byte, bodySize int) []byte {
	dst = binary.AppendVarint(dst, b.min)
	dst = binary.AppendVarint(dst, b.max)
	dst = binary.AppendVarint(dst, b.earliest)
	dst = binary.AppendUvarint(dst, uint64(b.entries))
	dst = binary.AppendUvarint(dst, uint64(bodySize))
	bloom := makeBloom(b.keys)
	dst = binary.AppendUvarint(dst, uint64(len(bloom)))
	return append(dst, bloom...)
}

// The kinds of entries. A reader passes over kinds that it does not know.
const (
	sessionEntry      = 1
	transactionEntry  = 2
	confirmationEntry = 3
	changeEntry       = 4
)

// confirmation adds that a client has read its final reply.
func (b *builder) confirmation(id string, at time.Time) {
	start := b.begin()
	b.count(confirmationEntry)
	b.text(id)
	b.time(at)
	b.end(start)
	b.span(at, at)
	b.key(idKey, sessionOf(id))
}

// record adds a session's or a transaction's record.
func (b *builder) record(r *policy.Record, verdict string) {
	d := b.disguise
	d.nextRecord()
	if r.Envelope != nil {
		d.watch(r.Envelope.ReversePath)
	}
	for i := range r.Recipients {
		d.watch(r.Recipients[i].Address)
	}
	if r.Greeting != nil {
		d.watch(r.Greeting.AuthUser)
	}
	start := b.begin()
	b.content(r, verdict)
	b.end(start)
	b.span(r.Start, r.End)
	b.recordKeys(r)
}

func (b *builder) recordKeys(r *policy.Record) {
	b.key(idKey, sessionOf(r.ID))
	if r.Session != nil {
		var room [64]byte
		b.addKey(hashKey(addressKey, r.Session.Client.IP.Unmap().WithZone("").AppendTo(room[:0])))
	}
	if r.Envelope != nil && r.Envelope.ReversePath != "" {
		b.key(mailKey, b.disguise.address(r.Envelope.ReversePath))
	}
	for i := range r.Recipients {
		b.key(mailKey, b.disguise.address(r.Recipients[i].Address))
	}
}

// sessionOf is the id of the session that a transaction belongs to: "0Q….3" is the third of "0Q…".
func sessionOf(id string) string {
	for i := range len(id) {
		if id[i] == '.' {
			return id[:i]
		}
	}
	return id
}
