package milter

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestReloadAddsAndRemovesSockets: who calls already stays, and the modes of a socket are those of its entry now.
func TestReloadAddsAndRemovesSockets(t *testing.T) {
	folder := t.TempDir()
	first := Listen{}
	first.SetDefaults()
	first.Address = "unix:" + filepath.Join(folder, "first.sock")
	h := start(t, setup{listen: first})
	old := h.hello()
	first.Mode = "0600"
	second := first
	second.Address = "unix:" + filepath.Join(folder, "second.sock")
	bound, err := second.Bind(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{first, second}, Added: []Bound{bound}}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(h.address); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of the socket: %v, %v", info, err)
	}
	nobody := second
	nobody.Group, nobody.Mode = "no such group", "0666"
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{first, nobody}}); err == nil {
		t.Error("a group that is not there is taken")
	}
	if err := h.server.Reload(h.service, &Listening{Entries: []Listen{second}}); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("unix", h.address); err == nil {
		conn.Close()
		t.Error("the first socket is listened on")
	}
	h.address = bound.Addr().String()
	h.hello().bye()
	old.envelope("a@example.org", "b@example.com")
	old.bye()
	if n := h.server.Listeners(); n != 1 {
		t.Errorf("%d sockets", n)
	}
}

// TestReloadBehindTheEnd: what was prepared comes into force when the server has ended meanwhile. Nobody is let in by it.
func TestReloadBehindTheEnd(t *testing.T) {
	h := start(t, setup{})
	entry := Listen{}
	entry.SetDefaults()
	entry.Address = "unix:" + filepath.Join(t.TempDir(), "late.sock")
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
	if conn, err := net.Dial("unix", added.Addr().String()); err == nil {
		conn.Close()
		t.Error("the new socket is listened on")
	}
	if retired != 1 {
		t.Errorf("the new service was retired %d times", retired)
	}
}
