package front

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
)

func TestIDs(t *testing.T) {
	var g IDs
	now := time.UnixMilli(1_700_000_000_000)
	last := ""
	for n := range 10_000 {
		if n == 5000 {
			now = now.Add(-time.Hour) // a clock that steps back
		}
		id := g.Next(now.Add(time.Duration(n) * time.Microsecond))
		if len(id) != idLength || id <= last || strings.Trim(id, alphabet) != "" {
			t.Fatalf("%q after %q", id, last)
		}
		last = id
	}
}

func TestSpill(t *testing.T) {
	s, err := NewSpill(t.TempDir(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Reserve(60) || s.Reserve(41) || !s.Reserve(40) || s.Used() != 100 {
		t.Fatal("the total is not kept")
	}
	s.Unreserve(100)
	if s.Used() != 0 {
		t.Fatal("what was given back is not free")
	}
	if _, err := NewSpill("/nonexistent", 1); err == nil {
		t.Fatal("a folder that is not there is taken")
	}
}

func TestMemory(t *testing.T) {
	var m Memory
	one, two := m.Claim(200<<10, 160<<10), m.Claim(200<<10, 160<<10)
	if one.Held() != 64<<10 || two.Held() != 64<<10 || m.Used() != 128<<10 {
		t.Fatalf("claimed %d and %d, together %d", one.Held(), two.Held(), m.Used())
	}
	message := filters.NewMessage(one.Held(), nil)
	defer message.Release()
	if one.Widen(message, 64<<10); !one.Spills() || one.Held() != 64<<10 {
		t.Errorf("with the total used up a message spills: %t, %d", one.Spills(), one.Held())
	}
	one.Release()
	if two.Widen(message, 64<<10); two.Spills() || two.Held() != 128<<10 {
		t.Errorf("with room a message gets as much again: %t, %d", two.Spills(), two.Held())
	}
	if two.Widen(message, 128<<10); !two.Spills() {
		t.Errorf("beyond the total it spills")
	}
	two.Release()
	two.Release()
	if m.Used() != 0 {
		t.Errorf("%d bytes are still claimed", m.Used())
	}
}

func TestUses(t *testing.T) {
	var u Uses
	u.Begin()
	if !u.Acquire() || u.Release() || !u.Release() || u.Acquire() {
		t.Error("two users: the first to go is not the last, and after the last there is no other")
	}
}

// counted is a Replaceable whose end can be seen.
type counted struct {
	Uses
	gone bool
}

func (c *counted) Release() { c.gone = c.Uses.Release() || c.gone }

func newCounted() *counted {
	c := &counted{}
	c.Begin()
	return c
}

func TestInForce(t *testing.T) {
	var f InForce[*counted]
	first, second, late := newCounted(), newCounted(), newCounted()
	f.Begin(first)
	held, _ := f.Acquire()
	f.Replace(second)
	if held != first || first.gone {
		t.Error("what is still used is gone")
	}
	if held.Release(); !first.gone {
		t.Error("its last user leaves it there")
	}
	if now, ok := f.Acquire(); now != second || !ok {
		t.Error("who comes now does not get what is in force")
	}
	second.Release()
	f.End()
	f.Replace(late)
	if _, ok := f.Acquire(); ok || !second.gone || !late.gone {
		t.Error("something is in force behind the end, or left over")
	}
	f.End()
}

func TestHeaderFault(t *testing.T) {
	header := func(n int) *filters.Header {
		return &filters.Header{Fields: slices.Repeat([]filters.Field{{Name: "received"}}, n), Size: 100 * n}
	}
	for _, test := range []struct {
		header *filters.Header
		code   int
	}{
		{header(10), 0}, {header(11), 554}, {&filters.Header{Size: 5001}, 552}, {&filters.Header{Cut: true}, 552},
	} {
		if fault, _ := HeaderFault(test.header, 5000, 10); fault.Code != test.code {
			t.Errorf("%d fields, %d bytes: %d, want %d", len(test.header.Fields), test.header.Size, fault.Code, test.code)
		}
	}
}
