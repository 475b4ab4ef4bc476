package resolver

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// sources is a server that answers every name but silent.example, for which it calls asked, and counts the sockets that
// have asked.
func sources(t *testing.T, asked func()) (address string, count func() int) {
	udp := listenUDP(t)
	answer := records("a.example. 60 IN A 192.0.2.1")
	var mu sync.Mutex // guards seen
	seen := map[string]bool{}
	var running sync.WaitGroup
	running.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			mu.Lock()
			seen[from.String()] = true
			mu.Unlock()
			var q dns.Msg
			if q.Unpack(buffer[:n]) != nil {
				continue
			}
			if q.Question[0].Name == "silent.example." {
				asked()
				continue
			}
			packed, _ := answer("udp", &q).Pack()
			for range 3 { // the late ones are for nobody
				udp.WriteTo(packed, from)
			}
		}
	})
	t.Cleanup(func() { udp.Close(); running.Wait() })
	return udp.LocalAddr().String(), func() int { mu.Lock(); defer mu.Unlock(); return len(seen) }
}

func TestSocketsAreUsedAgainForServersOnThisMachine(t *testing.T) {
	address, count := sources(t, nil)
	for _, near := range []bool{true, false} {
		s := &server{address: address, near: near}
		defer s.spare.close()
		r, buffer := &Resolver{Metrics: &Metrics{}}, make([]byte, bufferSize)
		before := count()
		for i := range 20 {
			q := newQuery(fmt.Sprintf("%d.example", i), dns.TypeA)
			if reply, err := r.overUDP(t.Context(), time.Now().Add(time.Minute), s, q, buffer); err != nil || !q.answeredBy(reply) {
				t.Fatal(err)
			}
		}
		if used := count() - before; near && used != 1 || !near && used < 15 { // a port may come twice by chance
			t.Errorf("near %v: %d sockets for 20 questions", near, used)
		}
	}
}

func TestASocketWithoutAnAnswerIsNotUsedAgain(t *testing.T) {
	asked := make(chan struct{}, 1)
	address, count := sources(t, func() { asked <- struct{}{} })
	s := &server{address: address, near: true}
	defer s.spare.close()
	r, buffer := &Resolver{Metrics: &Metrics{}}, make([]byte, bufferSize)
	for i := range 3 {
		waiting, giveUp := context.WithCancel(t.Context())
		go func() { <-asked; giveUp() }()
		if _, err := r.overUDP(waiting, time.Now().Add(time.Minute), s, newQuery("silent.example", dns.TypeA), buffer); err == nil {
			t.Error("silence is an answer")
		}
		if _, err := r.overUDP(t.Context(), time.Now().Add(time.Minute), s, newQuery(fmt.Sprintf("%d.example", i), dns.TypeA), buffer); err != nil {
			t.Fatal(err)
		}
		if n := s.spare.count(); n != 1 {
			t.Errorf("%d sockets are kept", n)
		}
	}
	if count() != 4 {
		t.Errorf("%d sockets were used: each is to have one answer, and the first none", count())
	}
}

func TestSpareSocketsAreBounded(t *testing.T) {
	var s spare
	for range maxSpare + 2 {
		conn, _ := net.Pipe()
		s.keep(newSocket(conn))
	}
	if len(s.conns) != maxSpare {
		t.Errorf("%d are kept", len(s.conns))
	}
	kept := s.conns[0]
	s.close()
	pipe, _ := net.Pipe()
	late := newSocket(pipe)
	s.keep(late)
	for _, conn := range []*socket{kept, late} {
		if _, err := conn.Write([]byte("x")); err == nil {
			t.Error("one is open behind the end")
		}
	}
	if s.take() != nil {
		t.Error("one is lent behind the end")
	}
}

func TestWhoIsNear(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:53": true, "127.0.0.53:53": true, "[::1]:53": true, "[::ffff:127.0.0.1]:53": true,
		"192.0.2.53:53": false, "[2001:db8::1]:53": false, "[fe80::1%lo]:53": false, "localhost:53": false} {
		if got := isNear(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}
