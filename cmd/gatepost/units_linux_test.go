package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// systemdAnalyze runs it over the units as they are installed, their program put in the place of what is not.
func systemdAnalyze(t *testing.T, args ...string) string {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	command := exec.Command(analyze, args...)
	command.Env = append(os.Environ(), "SYSTEMD_PAGER=cat", "LC_ALL=C.UTF-8")
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

// units copies the units and what overrides them.
func units(t *testing.T, override string) (service, socket string) {
	t.Helper()
	folder := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gatepost.service", "gatepost.socket"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		installed := strings.ReplaceAll(string(text), "/usr/bin/gatepost", self)
		installed = regexp.MustCompile(`(?m)^Documentation=.*\n`).ReplaceAllString(installed, "") // the pages are installed with it
		write(t, filepath.Join(folder, name), installed)
	}
	if override != "" {
		write(t, filepath.Join(folder, "gatepost.service.d", "override.conf"), override)
	}
	return filepath.Join(folder, "gatepost.service"), filepath.Join(folder, "gatepost.socket")
}

func TestUnitsAreGood(t *testing.T) {
	service, socket := units(t, "")
	if output := systemdAnalyze(t, "verify", service, socket); output != "" {
		t.Error(output)
	}
}

// The figures are in the manual. Releases of systemd differ in what they know, and so a little in what comes of it.
func TestExposureIsAsTheManualSays(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join("..", "..", "docs", "hardening.md"))
	if err != nil {
		t.Fatal(err)
	}
	override := regexp.MustCompile("(?s)```ini\n(\\[Service\\].*?)```").FindSubmatch(manual)
	figures := regexp.MustCompile(`(?m)exposure level (\d)\.(\d)`).FindAllSubmatch(manual, -1)
	if override == nil || len(figures) != 2 {
		t.Fatalf("the manual has %d figures", len(figures))
	}
	for i, more := range []string{"", string(override[1])} {
		service, _ := units(t, more)
		systemdAnalyze(t, "security", "--offline=true", "--threshold="+string(figures[i][1])+string(figures[i][2]), service)
	}
}

// systemCalls are those that the unit's filter allows.
func systemCalls(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "systemd", "gatepost.service"))
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	var expand func(name string) []string
	expand = func(name string) (calls []string) {
		if !strings.HasPrefix(name, "@") {
			return []string{name}
		}
		for i, word := range strings.Fields(regexp.MustCompile(`(?m)#.*$`).ReplaceAllString(systemdAnalyze(t, "syscall-filter", "--no-pager", name), "")) {
			if i > 0 || word != name {
				calls = append(calls, expand(word)...)
			}
		}
		return calls
	}
	for _, call := range expand("@default") { // always allowed
		allowed[call] = true
	}
	for _, line := range regexp.MustCompile(`(?m)^SystemCallFilter=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		list, denied := strings.CutPrefix(line[1], "~")
		for _, name := range strings.Fields(list) {
			for _, call := range expand(name) {
				allowed[call] = !denied
			}
		}
	}
	return allowed
}

// What Gatepost calls from its start over mail, a reload and an upgrade to its end, as the unit's user with the unit's
// capability, is what the unit allows: a call that is not would be a crash on other people's machines.
func TestUnitAllowsWhatIsCalled(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	s, program := forOtherUsers(t, 0o777)
	u := nobody(t)
	allowed := systemCalls(t)
	s.configure(settingsWithout("store") + unpaused + fmt.Sprintf("store: {path: %s/state}\nmilter:\n  - {address: 'unix:%s/mta.sock'}\nlisten:\n  - {address: '127.0.0.1:0'}\n", s.folder, s.folder))
	trace := filepath.Join(s.folder, "trace")
	command := exec.Command("setpriv", fmt.Sprintf("--reuid=%d", u.UID), fmt.Sprintf("--regid=%d", u.GID), "--clear-groups", "--no-new-privs",
		"--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service", "--bounding-set=-all,+net_bind_service",
		strace, "-f", "-qq", "-o", trace, program, "serve", "-c", s.file)
	s.runCommand(command)
	s.recipient("bob@example.net", "250")
	tracer := command.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", tracer, tracer))
	if err != nil {
		t.Fatal(err)
	}
	var traced int
	fmt.Sscan(string(children), &traced)
	if err := syscall.Kill(traced, unix.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.awaitLog("the new configuration is in force")
	if output, status := s.command("upgrade"); status != 0 {
		t.Fatalf("status %d: %s", status, output)
	}
	successor := s.awaitLog("it gets store, journal and quarantine")
	s.recipient("carol@example.net", "250")
	s.log.forget()
	var pid int
	fmt.Sscanf(regexp.MustCompile(`pid=\d+`).FindString(successor), "pid=%d", &pid)
	if err := syscall.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.awaitLog("msg=ended")
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\(`).FindAllSubmatch(text, -1) {
		called[string(m[1])] = true
	}
	if len(called) < 40 || !called["execve"] || !bytes.Contains(text, []byte("landlock_restrict_self")) {
		t.Fatalf("only %d calls were seen", len(called))
	}
	var refused []string
	for call := range called {
		if !allowed[call] {
			refused = append(refused, call)
		}
	}
	// Gatepost asks whether it could become root again: no is a good answer.
	refused = slices.DeleteFunc(refused, func(call string) bool { return call == "setresuid" })
	if slices.Sort(refused); len(refused) > 0 {
		t.Errorf("the unit refuses %s", strings.Join(refused, ", "))
	}
}
