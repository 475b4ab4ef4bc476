package confine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMissing(t *testing.T) {
	have := Grant{Read: []string{"/etc", "/srv/certs"}, Execute: []string{"/usr/bin"}, Write: []string{"/var/lib/gatepost"}, Ports: []uint16{25, 53}}
	for _, c := range []struct {
		name string
		need Grant
		want string
	}{
		{"the same", have, ""},
		{"less", Grant{Ports: []uint16{53}}, ""},
		{"below", Grant{Read: []string{"/etc/gatepost", "/var/lib/gatepost/x", "/usr/bin"}, Write: []string{"/var/lib/gatepost/state"}, Ports: []uint16{}}, ""},
		{"a name that begins alike", Grant{Read: []string{"/etcetera"}, Ports: []uint16{}}, "read /etcetera"},
		{"above", Grant{Read: []string{"/srv"}, Ports: []uint16{}}, "read /srv"},
		{"more than read", Grant{Write: []string{"/etc/x"}, Execute: []string{"/srv/certs"}, Ports: []uint16{}}, "write to /etc/x, execute in /srv/certs"},
		{"a port", Grant{Ports: []uint16{25, 587}}, "connect to port 587"},
		{"all ports", Grant{}, "connect to whatever port the nodes of store.redis have"},
	} {
		if got := strings.Join(have.Missing(&c.need), ", "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	have.Ports = nil
	if got := have.Missing(&Grant{Ports: []uint16{1}}); got != nil {
		t.Errorf("where all ports are free: %q", got)
	}
}

// The link of a renewed certificate changes: the new file is where the old one was.
func TestReadFileGrantsWhereItLeadsTo(t *testing.T) {
	folder := resolved(t.TempDir())
	for _, path := range []string{"live", "archive"} {
		if err := os.Mkdir(filepath.Join(folder, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "archive", "cert1.pem"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../archive/cert1.pem", filepath.Join(folder, "live", "cert.pem")); err != nil {
		t.Fatal(err)
	}
	var g Grant
	g.ReadFile(filepath.Join(folder, "live", "cert.pem"))
	g.ReadFile("")
	if want := []string{filepath.Join(folder, "live"), filepath.Join(folder, "archive")}; !slices.Equal(g.Read, want) {
		t.Errorf("%q, want %q", g.Read, want)
	}
}

func TestOwn(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "above", "state")
	me := &User{Name: "me", UID: os.Geteuid(), GID: os.Getegid()}
	if err := me.Own(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(folder, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := me.Own(folder, 0o700); err != nil {
		t.Error(err)
	}
	other := &User{Name: "other", UID: os.Geteuid() + 1}
	if err := other.Own(folder, 0o700); err == nil || !strings.Contains(err.Error(), "chown -R -h other: "+folder) {
		t.Error(err)
	}
}
