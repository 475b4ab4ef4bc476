package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTheReleaseBefore goes from an older release to this one and back, by restarts and by upgrades, over one state and one
// journal. GATEPOST_BEFORE names the older one's binary: `make test-downgrade`.
func TestTheReleaseBefore(t *testing.T) {
	before := os.Getenv("GATEPOST_BEFORE")
	if before == "" {
		t.Skip("GATEPOST_BEFORE is not set: make test-downgrade builds an older release")
	}
	this, err := exec.LookPath("gatepost")
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(this), "gatepost-before") // a confined process starts what is in its own folder
	program, err := os.ReadFile(before)
	if err == nil {
		err = os.WriteFile(beside, program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	before = beside
	s := startServe(t, "journal: {path: journal}\nfilters: {greylist: {delay: 1h}}\nrules:\n"+
		"  - {name: grey, when: 'mail.domain == \"grey.test\"', then: greylist}\n  - {name: kept, when: 'mail.domain == \"kept.test\"', then: quarantine}\n")
	takesOver := exec.Command(before, "upgrade", "--help").Run() == nil // else it is older than that
	binaries := map[string]string{"old": before, "new": this}
	run := func(release string, args ...string) string {
		t.Helper()
		output, err := exec.Command(binaries[release], append(args, "-c", s.file)...).CombinedOutput()
		if err != nil {
			t.Errorf("%s %s: %v\n%s", release, strings.Join(args, " "), err, output)
		}
		return string(output)
	}
	var named []string // in the order in which they came
	live := func(release, name string) {
		t.Helper()
		for _, kind := range []string{"grey.test", "kept.test", "good.test"} {
			c := s.dial()
			defer c.conn.Close()
			c.say("MAIL FROM:<"+name+"@"+kind+">", "250")
			if kind == "grey.test" {
				c.say("RCPT TO:<alice@example.org>", "451")
				continue
			}
			c.say("RCPT TO:<alice@example.org>", "250")
			c.say("DATA", "354")
			c.say("Subject: "+name+"\r\n\r\nHello\r\n.", "250")
			c.say("QUIT", "221")
		}
		run(release, "block", "add", name+"@blocked.test", "--for", "1h")
		named = append(named, name)
	}
	look := func(release string) {
		t.Helper()
		s.eventually(named[len(named)-1]+"@good.test", "journal")
		journal, greylist := run(release, "journal", "--json", "-n", "1000"), run(release, "greylist", "list")
		kept, exceptions := run(release, "quarantine", "list"), run(release, "block", "list")
		for _, name := range named {
			for what, text := range map[string]string{"@good.test": journal, "@kept.test": kept, "@grey.test": greylist, "@blocked.test": exceptions} {
				if !strings.Contains(text, name+what) {
					t.Errorf("%s does not know %s%s:\n%s", release, name, what, text)
				}
			}
		}
	}
	live("new", "alfa")
	look("new")
	ways := map[string]int{}
	for i, step := range []struct{ release, how, name string }{
		{"old", "restart", "bravo"}, {"new", "restart", "charlie"}, {"old", "upgrade", "delta"}, {"new", "upgrade", "echo"}, {"old", "upgrade", "foxtrot"}, {"new", "restart", "golf"},
	} {
		if step.how == "upgrade" && takesOver {
			ways["upgrades"]++
			run("new", "upgrade", "--binary", binaries[step.release])
		} else {
			ways["restarts"]++
			s.endAll()
			s.runCommand(exec.Command(binaries[step.release], "serve", "-c", s.file))
		}
		live(step.release, step.name)
		look(step.release)
		for _, bad := range []string{"level=ERROR", "set aside", "panic"} {
			if line, _ := s.log.find(bad); line != "" {
				t.Errorf("step %d, %s: %s", i+1, step.release, line)
			}
		}
	}
	version, _ := exec.Command(before, "version").Output()
	fmt.Printf("downgrade: to and from %s: %d restarts, %d upgrades\n", strings.TrimSpace(string(version)), ways["restarts"], ways["upgrades"])
}

// endAll ends the process that serves, whichever it is by now, and waits for it.
func (s *served) endAll() {
	s.t.Helper()
	group := -s.process.Process.Pid
	syscall.Kill(group, syscall.SIGTERM)
	for deadline := time.Now().Add(patience); syscall.Kill(group, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("the process does not end")
		}
	}
}
