package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What postgrey has learned passes; what one gatepost knows goes to another through a file.
func TestGreylistImportAndExport(t *testing.T) {
	s := startServe(t, "rules:\n  - {name: grey, when: 'mail.address != \"\"', then: greylist}\n")
	s.recipient("nina@known.test", "451 4.7.1")
	s.recipient("otto@new.test", "451 4.7.1")
	folder := t.TempDir()
	dump, exported := filepath.Join(folder, "dump"), filepath.Join(folder, "export")
	now := time.Now().Unix()
	write(t, dump, fmt.Sprintf(`VERSION=3
format=print
type=btree
HEADER=END
 127.0.0.0/nina@known.test/bob@example.org
 %d,%d
 127.0.0.0/otto@new.test/bob@example.org
 %d,%d
 da39a3ee5e6b4b0d3255bfef95601890afd80709
 %d,%d
DATA=END
`, now-9000, now-60, now-60, now-60, now-9000, now))
	for _, added := range []int{1, 0} {
		text, status := s.command("greylist", "import", "--file", dump)
		if want := fmt.Sprintf("Passes read: 1; new or longer: %d; known or expired: %d; still waiting: 1; not understood: 1\n", added, 1-added); status != 0 || text != want {
			t.Errorf("status %d: %s, want %s", status, text, want)
		}
	}
	s.recipient("nina@known.test", "250")
	s.recipient("otto@new.test", "451 4.7.1")

	if text, status := s.command("greylist", "export", "--file", exported); status != 0 || text != "Senders written: 1\n" {
		t.Errorf("export: status %d: %s", status, text)
	}
	if info, err := os.Stat(exported); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if text, status := s.command("greylist", "forget", "known.test"); status != 0 {
		t.Error(text)
	}
	s.recipient("nina@known.test", "451 4.7.1")
	if text, status := s.command("greylist", "import", "--file", exported); status != 0 || !strings.HasPrefix(text, "Passes read: 1; new or longer: 1;") {
		t.Errorf("import: status %d: %s", status, text)
	}
	s.recipient("nina@known.test", "250")

	write(t, dump, "something else\n")
	for _, arguments := range [][]string{{"--file", dump}, {"--file", folder}, {"--postgrey", folder}, {}, {"--file", dump, "--postgrey", folder}} {
		if text, status := s.command(append([]string{"greylist", "import"}, arguments...)...); status != 1 || !strings.HasPrefix(text, "gatepost: ") {
			t.Errorf("import %q: status %d: %s", arguments, status, text)
		}
	}
}
