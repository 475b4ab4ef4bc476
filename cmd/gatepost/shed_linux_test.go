package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/confine"
)

// unprivileged is a user that every system has.
const unprivileged = "nobody"

// forOtherUsers is a proxy that is not started yet, with a backend, whose folders have a mode by which other users get to
// them. Its program is a copy there.
func forOtherUsers(t *testing.T, mode os.FileMode) (s *served, program string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("root alone can become somebody else")
	}
	backend, err := backendtest.Start(backendtest.Behaviour{Domains: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	s = &served{t: t, folder: t.TempDir(), backend: backend}
	for _, folder := range []string{s.folder, filepath.Dir(s.folder)} {
		if err := os.Chmod(folder, mode); err != nil {
			t.Fatal(err)
		}
	}
	s.file = filepath.Join(s.folder, "etc", "gatepost.yaml")
	program = filepath.Join(s.folder, "bin", "gatepost")
	copyProgram(t, program)
	return s, program
}

// startAsRoot runs the proxy as root would who has a user in his configuration, on a port that only root can have.
func startAsRoot(t *testing.T, more string) *served {
	t.Helper()
	s, program := forOtherUsers(t, 0o755)
	pid := os.Getpid()
	s.configure(settingsWithout("store") + fmt.Sprintf("store: {path: %s/var/state}\njournal: {path: %s/var/journal}\nlisten:\n  - {address: '127.%d.%d.%d:25'}\n",
		s.folder, s.folder, 1+pid>>16&0x7f, pid>>8&0xff, 1+pid&0xfd) + more)
	s.runCommand(exec.Command(program, "serve", "-c", s.file))
	return s
}

func copyProgram(t *testing.T, to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err == nil {
		_, err = io.Copy(program, from)
	}
	if err == nil {
		err = program.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checkRights looks at every thread of a process: the rights of one would be everybody's.
func checkRights(t *testing.T, pid int, u *confine.User, capabilities uint64) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) < 2 {
		t.Fatalf("%d threads: %v", len(threads), err)
	}
	groups := []string{}
	for _, g := range u.Groups {
		groups = append(groups, strconv.Itoa(g))
	}
	four := func(id int) string { return strings.TrimSpace(strings.Repeat(strconv.Itoa(id)+" ", 4)) }
	mask := fmt.Sprintf("%016x", capabilities)
	want := map[string]string{"Uid": four(u.UID), "Gid": four(u.GID), "Groups": strings.Join(groups, " "), "NoNewPrivs": "1",
		"CapInh": mask, "CapPrm": mask, "CapEff": mask, "CapBnd": mask, "CapAmb": mask}
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if os.IsNotExist(err) { // it has ended
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			if expected, ok := want[name]; ok {
				found++
				if got := strings.Join(strings.Fields(value), " "); got != expected {
					t.Errorf("%s: %s is %s, want %s", thread, name, got, expected)
				}
			}
		}
		if found != len(want) {
			t.Errorf("%s tells %d of %d", thread, found, len(want))
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil || !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("core files are possible: %v\n%s", err, limits)
	}
}

func nobody(t *testing.T) *confine.User {
	t.Helper()
	u, err := confine.Lookup(unprivileged, "")
	if err != nil {
		t.Skip("there is no user nobody: ", err)
	}
	return u
}

func TestRootBecomesTheUserForGood(t *testing.T) {
	u := nobody(t)
	s := startAsRoot(t, unpaused+"user: nobody\n")
	checkRights(t, s.process.Process.Pid, u, 0)
	s.recipient("bob@example.net", "250")
	for _, file := range []string{"var/state", "var/journal", "var/state/control.sock"} {
		info, err := os.Lstat(filepath.Join(s.folder, file))
		if err != nil {
			t.Error(err)
		} else if owner := info.Sys().(*syscall.Stat_t).Uid; owner != uint32(u.UID) {
			t.Errorf("%s belongs to %d", file, owner)
		}
	}

	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.file, string(text)+blocked("bob@example.net"))
	s.reload("the new configuration is in force")
	s.recipient("bob@example.net", "550 5.7.1 not you")

	write(t, s.file, strings.Replace(string(text), "user: nobody", "user: daemon", 1))
	s.reload(": user: it is settled at the start")
	write(t, s.file, strings.Replace(string(text), "admin: off", "admin: 127.0.0.1:81", 1))
	for _, want := range []string{":81: bind: permission denied", "so has a successor by gatepost upgrade. Restart it", s.file + ":"} {
		if line := s.reload("admin.address: listen tcp "); !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
	write(t, s.file, string(text)+blocked("carol@example.net"))

	s.log.forget()
	if output, status := s.command("upgrade"); status != 0 {
		t.Fatalf("status %d: %s", status, output)
	}
	var successor int
	fmt.Sscanf(regexp.MustCompile(`pid=\d+`).FindString(s.awaitLog("it gets store, journal and quarantine")), "pid=%d", &successor)
	checkRights(t, successor, u, 0)
	s.recipient("carol@example.net", "550 5.7.1 not you")
}

func TestTransparentAddressesKeepOneCapability(t *testing.T) {
	u := nobody(t)
	s := startAsRoot(t, unpaused+"user: nobody\n")
	text, _ := os.ReadFile(s.file)
	s.signal(syscall.SIGTERM)
	s.exit()
	write(t, s.file, strings.Replace(string(text), "backend: ", "backend:\n  client_address: transparent\n  connect_timeout: 200ms\n  address: ", 1))
	s.runCommand(exec.Command(filepath.Join(s.folder, "bin", "gatepost"), "serve", "-c", s.file))
	const netRaw = 1 << 13
	checkRights(t, s.process.Process.Pid, u, netRaw)
	s.log.forget()
	if output, status := s.command("upgrade"); status != 0 {
		t.Fatalf("status %d: %s", status, output)
	}
	var successor int
	fmt.Sscanf(regexp.MustCompile(`pid=\d+`).FindString(s.awaitLog("it gets store, journal and quarantine")), "pid=%d", &successor)
	checkRights(t, successor, u, netRaw)
}

func TestStateOfAnotherUserIsNamed(t *testing.T) {
	nobody(t)
	s := startAsRoot(t, "")
	s.awaitLog("gatepost runs as root")
	text, _ := os.ReadFile(s.file)
	s.signal(syscall.SIGTERM)
	s.exit()
	write(t, s.file, string(text)+"user: nobody\n")
	output, err := exec.Command(filepath.Join(s.folder, "bin", "gatepost"), "serve", "-c", s.file).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "chown -R -h nobody: "+filepath.Join(s.folder, "var", "state")) {
		t.Errorf("%v: %s", err, output)
	}
}

// A rule reads a list. The modes of the list outside are no obstacle.
func TestConfinedToFilesOfTheConfiguration(t *testing.T) {
	if confine.Available() == confine.Nothing {
		t.Skip("this kernel has no Landlock")
	}
	outside := t.TempDir()
	write(t, filepath.Join(outside, "senders"), "bob@example.net\n")
	rule := "rules:\n  - {name: listed, when: 'in_list(mail.address, \"senders\")', then: reject, reply: 550 5.7.1 not you}\n"
	for _, c := range []struct{ name, more, linked, lists, backend string }{
		{"confined", "", "permission denied", ": lists: read ", ": backend.address: connect to port 7"},
		{"not confined", "confine: off\n", "the new configuration is in force", "the new configuration is in force", "the new configuration is in force"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServe(t, c.more)
			text, err := os.ReadFile(s.file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(s.folder, "lists"), 0o755); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(s.folder, "lists", "senders")
			write(t, link, "bob@example.net\n")
			write(t, s.file, string(text)+rule)
			s.reload("the new configuration is in force")
			s.recipient("bob@example.net", "550 5.7.1 not you")

			if err := os.Remove(link); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(outside, "senders"), link); err != nil {
				t.Fatal(err)
			}
			s.reload(c.linked)
			write(t, s.file, string(text)+"lists: "+outside+"\n"+rule)
			s.reload(c.lists)
			write(t, s.file, strings.ReplaceAll(string(text), s.backend.Address(), "127.0.0.1:7"))
			s.reload(c.backend)
		})
	}
}

func TestCredentialsAreTheServicesAlone(t *testing.T) {
	s := startServe(t, "confine: off\n")
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	credentials := t.TempDir()
	write(t, filepath.Join(credentials, "mx.key"), "abc\n")
	s.signal(syscall.SIGTERM)
	s.exit()
	write(t, s.file, string(text)+"filters:\n  dnsbl:\n    zones:\n      - {zone: dq.example.net, codes: {127.0.0.2: 4}, key: 'credential:mx.key'}\n")
	output, status := s.command("serve")
	if status != 1 || !strings.Contains(output, "credentials are missing: mx.key") {
		t.Errorf("status %d: %s", status, output)
	}
	if output, status := s.command("check"); status != 0 || !strings.Contains(output, "known to the service alone") {
		t.Errorf("status %d: %s", status, output)
	}
	command := exec.Command("gatepost", "serve", "-c", s.file)
	command.Env = append(os.Environ(), "CREDENTIALS_DIRECTORY="+credentials)
	s.runCommand(command)
	if log := s.log.String(); strings.Contains(log, "abc") {
		t.Error("the secret is in the log")
	}
	s.reload("the new configuration is in force")
}
