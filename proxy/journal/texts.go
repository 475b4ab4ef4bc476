package journal

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"
)

// textTable is the table of a block's texts. A map of them is twice as dear, keeps what their texts were cut from in memory,
// and is work for the collector with each of its rounds: there are some thousands of them at any time.
type textTable struct {
	table []byte     // the texts, each with its length before it
	slots []textSlot // by hash, or behind that; as many as a power of two, never full
	count uint64
	known [256]knownText // spares the rest what comes again and again: names of filters, states, results
}

type textSlot struct {
	hash  uint32
	place uint32 // from 1; 0: the slot is free
	start uint32 // in the table
	size  uint32
}

// knownText is remembered by where it is in memory, which most of ours and many of a session's stay.
type knownText struct {
	text  string
	place uint64
}

const fewestSlots = 1024

var textSeed = maphash.MakeSeed()

func (t *textTable) reset() {
	t.table, t.count = t.table[:0], 0
	clear(t.slots)
	clear(t.known[:])
}

// place returns the place of a text, from 1, and puts it into the table if it is not there yet.
func (t *textTable) place(s string) uint64 {
	data := unsafe.StringData(s)
	at := uintptr(unsafe.Pointer(data))
	known := &t.known[(at^at>>8^uintptr(len(s)))%uintptr(len(t.known))]
	if len(known.text) != len(s) || unsafe.StringData(known.text) != data {
		*known = knownText{s, t.find(s)}
	}
	return known.place
}

func (t *textTable) find(s string) uint64 {
	if uint64(len(t.slots))*3 <= t.count*4 {
		t.grow()
	}
	hash := maphash.String(textSeed, s)
	for i := hash; ; i++ {
		slot := &t.slots[i&uint64(len(t.slots)-1)]
		switch {
		case slot.place == 0:
			t.count++
			t.table = binary.AppendUvarint(t.table, uint64(len(s)))
			*slot = textSlot{hash: uint32(hash), place: uint32(t.count), start: uint32(len(t.table)), size: uint32(len(s))}
			t.table = append(t.table, s...)
			return t.count
		case slot.hash == uint32(hash) && slot.size == uint32(len(s)) && string(t.table[slot.start:slot.start+slot.size]) == s:
			return uint64(slot.place)
		}
	}
}

func (t *textTable) grow() {
	old := t.slots
	t.slots = make([]textSlot, max(fewestSlots, 2*len(old)))
	for _, slot := range old {
		if slot.place == 0 {
			continue
		}
		i := t.again(slot)
		for t.slots[i].place != 0 {
			i = (i + 1) & uint64(len(t.slots)-1)
		}
		t.slots[i] = slot
	}
}

// again is the slot that a text belongs into.
func (t *textTable) again(slot textSlot) uint64 {
	return maphash.Bytes(textSeed, t.table[slot.start:slot.start+slot.size]) & uint64(len(t.slots)-1)
}
