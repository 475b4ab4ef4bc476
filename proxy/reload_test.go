package proxy

import (
	"errors"
	"net"
	"testing"
)

// TestReloadAddsAndRemovesListeners: who has come in stays, wherever that was.
func TestReloadAddsAndRemovesListeners(t *testing.T) {
	h := start(t, setup{})
	old := h.hello()
	before := h.server.anyDoor()
	bind := func(l Listen) Bound {
		bound, err := l.Bind(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return bound
	}
	entry := Listen{Address: "localhost:0"}
	added := bind(entry)
	bad := entry
	bad.Certificate = "/nonexistent"
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{bad}, Added: []Bound{{bad, added.Listener}}}); err == nil {
		t.Error("a new listener without its certificate is taken")
	}
	if l := h.server.anyDoor(); l != before {
		t.Error("the old listener is gone")
	}
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{entry}, Added: []Bound{added}}); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", h.address); err == nil {
		conn.Close()
		t.Error("the old address is listened on")
	}
	h.address = added.Addr().String()
	h.hello().say("QUIT", "221")
	old.say("MAIL FROM:<a@example.org>", "250")
	old.say("QUIT", "221")

	h.server.StopAccepting()
	late := bind(entry)
	defer late.Close()
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{entry}, Added: []Bound{late}}); !errors.Is(err, errNotListening) {
		t.Errorf("a listener is added to a server that has stopped: %v", err)
	}
}

// TestReloadBehindTheEnd: what was prepared comes into force when the server has ended meanwhile. Nobody is let in by it.
func TestReloadBehindTheEnd(t *testing.T) {
	h := start(t, setup{})
	entry := Listen{Address: "127.0.0.1:0"}
	added, err := entry.Bind(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	retired := 0
	next := h.service
	next.Retired = func() { retired++ }
	apply, err := h.server.Prepare(next, &Listening{Entries: []Listen{entry}, Added: []Bound{added}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply()
	if conn, err := net.Dial("tcp", added.Addr().String()); err == nil {
		conn.Close()
		t.Error("the new address is listened on")
	}
	if retired != 1 {
		t.Errorf("the new service was retired %d times", retired)
	}
}
