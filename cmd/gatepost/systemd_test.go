//go:build systemd

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// box is a machine of its own whose first process is Debian's systemd, booted by .ci/test-systemd. This process has its
// network, and the machine's files.
type box struct {
	*served
	pid  string // of its systemd, as we see it
	root string // its files, as we see them
}

func enterBox(t *testing.T) *box {
	t.Helper()
	pid := os.Getenv("GATEPOST_SYSTEMD")
	if pid == "" {
		t.Fatal("GATEPOST_SYSTEMD is not set: run make test-systemd")
	}
	sink, err := backendtest.Start(backendtest.Behaviour{Domains: []string{"example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sink.Close)
	return &box{&served{t: t, address: "127.0.0.1:25", backend: sink}, pid, "/proc/" + pid + "/root"}
}

// try runs a command in the box.
func (b *box) try(args ...string) (output string, err error) {
	b.t.Helper()
	command := exec.Command("nsenter", append([]string{"--all", "--target", b.pid, "--wd=/"}, args...)...)
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive"}
	text, err := command.CombinedOutput()
	return strings.TrimSpace(string(text)), err
}

// do runs one that must succeed.
func (b *box) do(args ...string) (output string) {
	b.t.Helper()
	output, err := b.try(args...)
	if err != nil {
		b.t.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, output, b.journal())
	}
	return output
}

// journal is what systemd and the service have said lately.
func (b *box) journal() string {
	text, _ := b.try("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "60")
	return text
}

// property asks systemd about the service.
func (b *box) property(name string) string {
	b.t.Helper()
	return b.do("systemctl", "show", "--value", "-p", name, "gatepost.service")
}

// await waits until a property of the service is so.
func (b *box) await(name, want string) {
	b.t.Helper()
	got := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = b.property(name); got == want {
			return
		}
	}
	b.t.Fatalf("%s is %q and not %q\n%s", name, got, want, b.journal())
}

// says repeats a command until its output has a text.
func (b *box) says(want string, args ...string) {
	b.t.Helper()
	text := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if text, _ = b.try(args...); strings.Contains(text, want) {
			return
		}
	}
	b.t.Fatalf("%s: no %q in %s\n%s", strings.Join(args, " "), want, text, b.journal())
}

// logged waits for a line of the service's, or systemd's about it.
func (b *box) logged(want string) {
	b.t.Helper()
	b.says(want, "journalctl", "--no-pager", "-o", "cat", "-u", "gatepost.service")
}

func (b *box) write(path, text string) {
	b.t.Helper()
	write(b.t, filepath.Join(b.root, path), text)
}

// settle writes the configuration.
func (b *box) settle(more string) {
	b.t.Helper()
	b.write("etc/gatepost/gatepost.yaml", strings.ReplaceAll(settingsWithout("store")+"listen:\n  - {address: ':25'CERTIFICATE}\n", "BACKEND", b.backend.Address())+more)
	b.replace("CERTIFICATE", "")
}

func (b *box) replace(old, text string) {
	b.t.Helper()
	path := filepath.Join(b.root, "etc/gatepost/gatepost.yaml")
	was, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	write(b.t, path, strings.Replace(string(was), old, text, 1))
}

// override is a drop-in of the service until the step ends.
func (b *box) override(text string) {
	b.t.Helper()
	file := "/etc/systemd/system/gatepost.service.d/test.conf"
	b.write(file, text)
	b.do("systemctl", "daemon-reload")
	b.t.Cleanup(func() {
		b.do("rm", file)
		b.do("systemctl", "daemon-reload")
	})
}

// deliver sends a message that must arrive at the backend.
func (b *box) deliver(subject string) {
	b.t.Helper()
	before := len(b.backend.Messages())
	k := b.dial()
	k.say("MAIL FROM:<bob@example.net>", "250")
	k.say("RCPT TO:<alice@example.org>", "250")
	k.say("DATA", "354")
	k.say("Subject: "+subject+"\r\n\r\nHello\r\n.", "250")
	k.say("QUIT", "221")
	messages := b.backend.Messages()
	if len(messages) != before+1 || !strings.Contains(string(messages[before].Data), subject) {
		b.t.Fatalf("the backend has got %d messages, not 1", len(messages)-before)
	}
}

// status is /proc/…/status of the service's process.
func (b *box) status() string {
	b.t.Helper()
	return b.do("cat", "/proc/"+b.property("MainPID")+"/status")
}

// TestSystemd is the life of the service, from its installation to its removal.
func TestSystemd(t *testing.T) {
	b := enterBox(t)
	passed := 0
	steps := []struct {
		name string
		run  func(*box)
	}{
		{"installed", (*box).isInstalled},
		{"started", (*box).isStarted},
		{"reloaded", (*box).isReloaded},
		{"refused reload", (*box).refusesReload},
		{"package with a mistake in the configuration", (*box).isKept},
		{"upgraded by the package", (*box).isUpgraded},
		{"hung", (*box).isHung},
		{"killed", (*box).isKilled},
		{"no start that no restart cures", (*box).isNotRestarted},
		{"credentials", (*box).hasCredentials},
		{"socket", (*box).hasSocket},
		{"no capability", (*box).hasNoCapability},
		{"stopped", (*box).isStopped},
		{"purged", (*box).isPurged},
	}
	for _, step := range steps {
		if t.Run(step.name, func(t *testing.T) { b.t = t; step.run(b) }) {
			passed++
		}
	}
	version, _, _ := strings.Cut(b.do("systemctl", "--version"), "\n")
	fmt.Printf("systemd: %s as process 1: %d/%d steps passed\n", version, passed, len(steps))
}

// isInstalled: nothing is enabled or started by an installation; who has configured it does that.
func (b *box) isInstalled() {
	b.do("dpkg", "--force-depends", "-i", "/packages/one.deb")
	for _, unit := range []string{"gatepost.service", "gatepost.socket"} {
		if state, _ := b.try("systemctl", "is-enabled", unit); state != "disabled" {
			b.t.Errorf("%s is %s", unit, state)
		}
	}
	b.settle("rules: []\n")
	b.do("gatepost", "check")
}

func (b *box) isStarted() {
	b.do("systemctl", "enable", "--now", "gatepost.service")
	b.deliver("started")
	if status := b.property("StatusText"); !strings.Contains(status, "1 of 1 backends for mail up") {
		b.t.Errorf("status: %q", status)
	}
	status := b.status()
	user := regexp.MustCompile(`(?m)^Uid:\s+(\d+)\s`).FindStringSubmatch(status)
	if user == nil || user[1] == "0" {
		b.t.Errorf("its user is %v", user)
	}
	for _, want := range []string{`CapEff:\s+0{16}\n`, `CapPrm:\s+0{16}\n`, `CapAmb:\s+0{16}\n`, `NoNewPrivs:\s+1\n`, `Seccomp:\s+2\n`} {
		if !regexp.MustCompile(want).MatchString(status) {
			b.t.Errorf("no %s in\n%s", want, status)
		}
	}
	// Its own commands, as root and as its user, the doctor, and what it keeps.
	b.do("gatepost", "state", "export", "--file", "/tmp/state.jsonl")
	b.says("bob@example.net", "setpriv", "--reuid=gatepost", "--regid=gatepost", "--clear-groups", "gatepost", "journal")
	doctor, _ := b.try("gatepost", "doctor", "--json")
	for _, bad := range []string{`"check":"folders","severity":"error"`, `"check":"rights","severity":"error"`} {
		if strings.Contains(strings.Join(strings.Fields(doctor), ""), bad) {
			b.t.Errorf("the doctor: %s", doctor)
		}
	}
	units := "/usr/lib/systemd/system/gatepost."
	if text, err := b.try("systemd-analyze", "verify", "--man=no", units+"service", units+"socket"); err != nil || strings.Contains(text, "gatepost") {
		b.t.Errorf("verify: %v, %s", err, text)
	}
}

func (b *box) isReloaded() {
	pid := b.property("MainPID")
	open := b.dial()
	b.settle(blocked("mallory@example.net"))
	b.do("systemctl", "reload", "gatepost.service")
	b.logged("the new configuration is in force")
	b.recipient("mallory@example.net", "550")
	open.say("MAIL FROM:<mallory@example.net>", "250")
	open.say("RCPT TO:<alice@example.org>", "250") // finishes on what it began with
	open.say("QUIT", "221")
	if now := b.property("MainPID"); now != pid || b.property("ActiveState") != "active" {
		b.t.Errorf("process %s is %s", pid, now)
	}
}

// refusesReload: a mistake is told to who asks for the reload, and what needs more rights to the log.
func (b *box) refusesReload() {
	b.settle("rules: nonsense\n")
	if text, err := b.try("systemctl", "reload", "gatepost.service"); err == nil {
		b.t.Errorf("a mistake is taken: %s", text)
	}
	b.recipient("mallory@example.net", "550")
	b.settle(blocked("trudy@example.net") + "milter:\n  - {address: 'inet:127.0.0.1:26'}\n")
	b.do("systemctl", "reload", "gatepost.service")
	b.logged(":26: bind: permission denied; the running gatepost has given up")
	b.recipient("mallory@example.net", "550")
	b.settle("rules: []\n")
	b.do("systemctl", "reload", "gatepost.service")
}

// isKept: a new release does not end one that serves, however the configuration has been left.
func (b *box) isKept() {
	pid := b.property("MainPID")
	b.settle("rules: nonsense\n")
	said := b.do("dpkg", "--force-depends", "--force-confold", "-i", "/packages/two.deb")
	if !strings.Contains(said, "the release before goes on") {
		b.t.Errorf("the installation said %q", said)
	}
	b.deliver("by the old one")
	if now := b.property("MainPID"); now != pid {
		b.t.Errorf("the service is process %s and not %s", now, pid)
	}
	b.settle("rules: []\n")
	b.do("dpkg", "--force-depends", "--force-confold", "--force-downgrade", "-i", "/packages/one.deb")
	b.deliver("by the old one, anew")
}

// isUpgraded: the package's installation has the new binary take over.
func (b *box) isUpgraded() {
	old := b.property("MainPID")
	open := b.dial()
	open.say("MAIL FROM:<bob@example.net>", "250")
	open.say("RCPT TO:<alice@example.org>", "250")
	open.say("DATA", "354")
	said := b.do("dpkg", "--force-depends", "--force-confold", "-i", "/packages/two.deb")
	if !strings.Contains(said, "serves now") {
		b.t.Errorf("the installation said %q", said)
	}
	if now := b.property("MainPID"); now == old || b.property("ActiveState") != "active" {
		b.t.Errorf("the service is process %s, as before, and %s", now, b.property("ActiveState"))
	}
	if text := b.do("readlink", "/proc/"+b.property("MainPID")+"/exe"); text != "/usr/bin/gatepost" {
		b.t.Errorf("it runs %s", text)
	}
	b.logged("version=v1.0.1")
	b.deliver("by the new one")
	open.say("Subject: by the old one\r\n\r\nHello\r\n.", "250")
	open.say("QUIT", "221")
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if _, err := b.try("test", "-e", "/proc/"+old); err != nil {
			break
		}
		if time.Now().After(deadline) {
			b.t.Fatal("the old process does not end")
		}
	}
	b.deliver("by the new one alone")
	if b.property("NRestarts") != "0" {
		b.t.Error("it was restarted")
	}
	b.do("systemctl", "reload", "gatepost.service") // reaches the new one
	b.do("gatepost", "upgrade")                     // and again, by hand
	b.deliver("by the third")
}

// isHung: a process that does not come round (one that is stopped does not even obey SIGABRT) is ended by the watchdog, and started again. One that works is not.
func (b *box) isHung() {
	b.override("[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\n")
	b.do("systemctl", "restart", "gatepost.service")
	time.Sleep(4 * time.Second)
	if b.property("NRestarts") != "0" {
		b.t.Fatalf("it was ended though it works\n%s", b.journal())
	}
	b.do("gatepost", "upgrade") // the successor is watched as well
	b.do("kill", "-STOP", b.property("MainPID"))
	b.await("NRestarts", "1")
	b.await("ActiveState", "active")
	b.deliver("behind the watchdog")
	b.logged("Watchdog timeout")
}

func (b *box) isKilled() {
	b.do("systemctl", "restart", "gatepost.service")
	b.do("kill", "-KILL", b.property("MainPID"))
	b.await("NRestarts", "1")
	b.await("ActiveState", "active")
	b.deliver("behind the crash")
}

// isNotRestarted: to try again every second helps nobody.
func (b *box) isNotRestarted() {
	b.do("systemctl", "stop", "gatepost.service")
	b.settle("rules: nonsense\n")
	if _, err := b.try("systemctl", "start", "gatepost.service"); err == nil {
		b.t.Error("it starts with a mistake in its configuration")
	}
	if status := b.property("ExecMainStatus"); status != strconv.Itoa(noRestart) {
		b.t.Errorf("exit status %s", status)
	}
	time.Sleep(1500 * time.Millisecond)
	if n, state := b.property("NRestarts"), b.property("ActiveState"); n != "0" || state != "failed" {
		b.t.Errorf("%s restarts, %s", n, state)
	}
	b.settle("rules: []\n")
	b.do("systemctl", "start", "gatepost.service")
	b.deliver("mended")
}

// hasCredentials: root's files, handed over by systemd.
func (b *box) hasCredentials() {
	b.do("mkdir", "-p", "/root/keys")
	certificate(b.t, filepath.Join(b.root, "root/keys"), "mx.example.org")
	b.do("chown", "-R", "root:root", "/root/keys")
	b.do("chmod", "-R", "go=", "/root/keys")
	b.override("[Service]\nLoadCredential=mx.pem:/root/keys/cert.pem\nLoadCredential=mx.key:/root/keys/key.pem\n")
	b.t.Cleanup(func() { b.settle("rules: []\n") })
	b.replace("':25'", "':25', certificate: 'credential:mx.pem', key: 'credential:mx.key'")
	b.do("systemctl", "restart", "gatepost.service")
	k, err := (&crowd{t: b.t, address: b.address}).from("127.0.0.1")
	if err != nil {
		b.t.Fatal(err)
	}
	defer k.conn.Close()
	if _, err := k.reply("220"); err != nil {
		b.t.Fatal(err)
	}
	if err := k.say("EHLO client.example.net", "250"); err != nil {
		b.t.Fatal(err)
	}
	if err := k.startTLS(); err != nil {
		b.t.Fatal(err)
	}
	b.do("systemctl", "reload", "gatepost.service") // the check beside it runs without the credentials
	b.do("gatepost", "upgrade")
	b.deliver("with credentials")
}

// hasSocket: systemd holds the port, starts the service by the first client, and refuses nobody while it is restarted.
func (b *box) hasSocket() {
	b.do("systemctl", "stop", "gatepost.service")
	b.do("systemctl", "enable", "--now", "gatepost.socket")
	b.deliver("wakes the service")
	waiting := b.dial()
	waiting.say("QUIT", "221")
	b.do("systemctl", "stop", "gatepost.service")
	early := b.dialOnly() // between two processes
	b.await("ActiveState", "active")
	if _, err := early.reply("220"); err != nil {
		b.t.Errorf("who came between two processes: %v", err)
	}
	early.conn.Close()
	b.do("systemctl", "restart", "gatepost.service")
	b.deliver("behind a restart")
	b.do("gatepost", "upgrade")
	b.deliver("behind an upgrade")
}

// hasNoCapability is the sandbox that the manual gives for the socket.
func (b *box) hasNoCapability() {
	manual, err := os.ReadFile(filepath.Join("docs", "hardening.md"))
	if err != nil {
		b.t.Fatal(err)
	}
	override := regexp.MustCompile("(?s)```ini\n(\\[Service\\].*?)```").FindSubmatch(manual)
	if override == nil {
		b.t.Fatal("docs/hardening.md has no sandbox for the socket")
	}
	b.override(string(override[1]))
	b.do("systemctl", "restart", "gatepost.service")
	b.deliver("without a capability")
	if status := b.status(); !regexp.MustCompile(`CapBnd:\s+0{16}\n`).MatchString(status) {
		b.t.Errorf("it could have capabilities:\n%s", status)
	}
	b.do("systemctl", "reload", "gatepost.service")
	b.do("gatepost", "upgrade")
	b.deliver("without a capability, upgraded")
}

// isStopped: who is in the middle of a message may finish it, who is idle is told.
func (b *box) isStopped() {
	b.do("systemctl", "restart", "gatepost.service")
	idle, busy := b.dial(), b.dial()
	busy.say("MAIL FROM:<bob@example.net>", "250")
	busy.say("RCPT TO:<alice@example.org>", "250")
	busy.say("DATA", "354")
	b.do("systemctl", "stop", "gatepost.socket")
	b.do("systemctl", "stop", "--no-block", "gatepost.service")
	idle.expect("421 4.3.2")
	busy.say("Subject: the last one\r\n\r\nHello\r\n.", "250")
	b.await("ActiveState", "inactive")
	if result := b.property("Result"); result != "success" {
		b.t.Errorf("it ended with %s", result)
	}
}

func (b *box) isPurged() {
	b.do("systemctl", "start", "gatepost.service")
	b.do("dpkg", "--purge", "gatepost")
	for _, path := range []string{"/etc/gatepost/gatepost.yaml", "/var/lib/gatepost", "/usr/bin/gatepost", "/lib/systemd/system/gatepost.service"} {
		if _, err := b.try("test", "-e", path); err == nil {
			b.t.Errorf("%s stays", path)
		}
	}
	if text, err := b.try("systemctl", "is-active", "gatepost.service"); err == nil {
		b.t.Errorf("it is %s", text)
	}
	if text, _ := b.try("ls", "/etc/systemd/system/multi-user.target.wants", "/etc/systemd/system/sockets.target.wants"); strings.Contains(text, "gatepost") {
		b.t.Errorf("enabled still: %s", text)
	}
}
