package engine_test

import (
	"encoding/binary"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/storetest"
)

// before is a mark as proxies of layout 1 write it, too.
func before(first, passed, expires time.Time) string {
	var b []byte
	for _, t := range []time.Time{expires, first, first, passed} {
		var eight [8]byte
		if !t.IsZero() {
			binary.LittleEndian.PutUint64(eight[:], uint64(t.UnixMilli()))
		}
		b = append(b, eight[:6]...)
	}
	return string(binary.LittleEndian.AppendUint32(b, 1))
}

// A new proxy learns what older ones know. They see nothing of it, and their keys stay as they are.
func TestMarksOfTheLayoutBefore(t *testing.T) {
	nodes := redistest.StartCluster(t, 2)
	c := config(redistest.Addresses(nodes)...)
	c.Cluster = true
	ctx, e, now := t.Context(), open(t, c, filters.SystemClock{}), time.Now()
	at := func(name string) *redistest.Server { return redistest.Owner(t, nodes, name) }
	const sender, domain, friend = "gp1g{example.org}n:192.0.2.0/24|alice@", "gp1g{example.org}d:", "gp1:known:{example.net}s:bob@"
	passed := before(now.Add(-2*time.Hour), now.Add(-time.Hour), now.Add(time.Hour))
	waiting := before(now.Add(-time.Minute), time.Time{}, now.Add(time.Hour))
	at(sender).Must("SET", sender, waiting, "PX", "3600000")
	at(domain).Must("SET", domain, waiting, "PX", "3600000")
	at(friend).Must("SET", friend, passed, "PX", "3600000")
	if n := must(e.Adopt(ctx, time.Time{}))(t); n != 3 {
		t.Fatalf("took over %d marks", n)
	}
	if n := must(e.Adopt(ctx, now))(t); n != 0 {
		t.Errorf("took over %d marks again", n)
	}
	marks := must(e.Attempt(ctx, "greylist", keys, storetest.Terms))(t)
	if marks[0].Attempts != 2 || marks[1].Attempts != 2 || !marks[0].Passed.IsZero() {
		t.Errorf("who waits is %v", marks)
	}
	if m := must(e.Peek(ctx, "known", []string{"s:bob@example.net"}))(t); m[0].Passed.IsZero() {
		t.Errorf("who is known is %v", m)
	}
	must(e.Forget(ctx, "greylist", keys))(t)
	if got := at(sender).Must("GET", sender); got != waiting {
		t.Errorf("an older proxy sees %q", got)
	}
}
