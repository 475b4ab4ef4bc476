package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// elsewhere are the commands of ours that cannot be run in front of a test's house, and what does it.
var elsewhere = map[string]string{
	"serve":    "the proxy of the test itself",
	"demo":     "testdata/demo.txtar",
	"init":     "it writes below /etc: testdata/init.txtar",
	"doctor":   "it asks the network: testdata/doctor.txtar",
	"upgrade":  "it changes the process: TestUpgrade",
	"version":  "testdata/commands.txtar",
	"store":    "it needs two stores: make test-redis",
	"greylist": "", // import alone, see reasonAgainst
}

// programs that are not ours, and why a test does not run them.
var programs = map[string]string{
	"make": "minutes of work; there is such a target", "go": "minutes of work",
	"systemctl": "root and systemd", "journalctl": "root and systemd", "dpkg": "root", "install": "root", "useradd": "root", "sed": "root",
	"du": "root", "df": "any machine has it", "ip": "root", "iptables": "root", "sysctl": "root", "chown": "root", "usermod": "root",
	"postconf": "on the mail server", "postfix": "on the mail server", "update-exim4.conf": "on the mail server", "exim4": "on the mail server",
}

// runnable are the programs that a line may need beside ours.
var runnable = []string{"gatepost", "jq", "curl", "cp", "grep", "printf", "read", "cat", "wc", "head", "sort", "uniq", "echo", "patch"}

// reasonAgainst tells why a line is not run; empty: it is.
func reasonAgainst(line shellLine, targets []string) (reason string, err error) {
	for _, words := range line.commands {
		switch program := words[0]; {
		case program == "gatepost" && len(words) > 1:
			if words[1] == "greylist" && len(words) > 2 && words[2] == "import" {
				reason = "it needs a database of postgrey: greylistlearned_test.go"
			} else if why := elsewhere[words[1]]; why != "" {
				reason = why
			}
			if words[1] == "journal" && slices.Contains(words, "-f") {
				reason = "it does not end"
			}
		case program == "make" && !slices.Contains(targets, words[len(words)-1]):
			return "", fmt.Errorf("make has no target %q", words[len(words)-1])
		case programs[program] != "":
			reason = programs[program]
		case slices.Contains(runnable, program):
			if !haveProgram(program) && program != "read" {
				reason = program + " is not here"
			}
			if program == "curl" && !strings.Contains(line.text, "http://127.0.0.1:8025/") {
				reason = "another machine"
			}
		default:
			return "", fmt.Errorf("whether %q can be run is not known: say behind `sh` what it needs", program)
		}
	}
	return reason, nil
}

// underRace tells that the race detector makes all ten times as slow.
var underRace bool

// Every line of the shell in the manual: ours are held against the commands that there are, and run in front of a proxy
// that serves; of others it is told why they are not.
func TestShellLinesOfTheManual(t *testing.T) {
	if underRace {
		t.Skip("its processes are those of other tests; the race detector makes a minute of it")
	}
	house := newDocumentedHouse(t)
	targets := makeTargets(t)
	run, parsed, left := 0, 0, map[string]int{}
	pages := manual(t)
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		for _, f := range fencesOf(name, pages[name]) {
			if f.info == "" && strings.HasPrefix(f.text, "gatepost ") && name != "docs/commands.md" {
				t.Errorf("%s: a block of commands that does not begin with ```sh:\n%s", name, f.text)
			}
			if f.info != "sh" && !strings.HasPrefix(f.info, "sh ") {
				continue
			}
			lines, err := shellLines(f.text)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, line := range lines {
				for _, words := range line.commands {
					if words[0] != "gatepost" {
						continue
					}
					parsed++
					if _, err := parseCommand(words[1:]); err != nil {
						t.Errorf("%s: %s: %v", name, line.text, err)
					}
				}
				reason := strings.TrimPrefix(f.info, "sh")
				if reason == "" {
					if reason, err = reasonAgainst(line, targets); err != nil {
						t.Errorf("%s: %s: %v", name, line.text, err)
						continue
					}
				}
				if reason != "" {
					left[strings.TrimSpace(reason)]++
					continue
				}
				run++
				if err := house.shell(line.text); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	fmt.Printf("docs: of the shell lines %d were run; commands of gatepost: %d parsed\n", run, parsed)
	for _, reason := range slices.SortedFunc(maps.Keys(left), func(a, b string) int { return left[b] - left[a] }) {
		fmt.Printf("docs: not run: %3d: %s\n", left[reason], reason)
	}
	if run < 20 || parsed < 30 {
		t.Errorf("only %d run, %d parsed", run, parsed)
	}
}

// A documentedHouse is a proxy about which all that the manual shows can be asked.
type documentedHouse struct {
	*served
	admin, refused string // address; id of a refusal
}

// The rules have the names that the manual uses.
const documentedRules = `trusted: []
admin: {address: "127.0.0.1:0"}
rules:
  - {name: allowed, when: 'exception.sender == "allowed"', then: accept}
  - {name: listed, when: 'mail.domain == "example.net" and mail.local == "joe"', then: reject}
  - {name: suspicious, when: 'header("Subject") == "money"', then: quarantine}
  - {name: newcomers, when: 'mail.address == "alice@example.net"', then: greylist}
  - name: forged
    when: mail.domain == "forged.example"
    then: reject
    mode: observe
listen: {address: "127.0.0.1:0", xclient_from: [127.0.0.1]}
`

func newDocumentedHouse(t *testing.T) *documentedHouse {
	h := &documentedHouse{served: startServe(t, documentedRules)}
	h.admin = regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(h.awaitLog("the admin pages are served"))[1]
	c := h.dial()
	c.say("XCLIENT ADDR=192.0.2.7 NAME=mail.example.net", "220")
	c.say("EHLO mail.example.net", "250")
	c.say("MAIL FROM:<joe@example.net>", "250")
	h.refused = idInReply.FindStringSubmatch(c.say("RCPT TO:<joe@example.org>", "550"))[1]
	c.say("QUIT", "221")
	h.recipient("alice@example.net", "451")
	h.handIn("client.example.net", "bob@example.net", "hello")
	write(t, filepath.Join(h.folder, "bounce.eml"), "It said: 550 5.7.1 refused (id "+h.refused+")\n")
	text, err := os.ReadFile(h.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(h.folder, "new.yaml"), string(text))
	h.awaitStory("refused for good", "why", h.refused)
	return h
}

// exampleID stands in the manual for an id of the reader's own.
const exampleID = "38G29KFPP00XD"

// shell runs a line with the house's configuration in the place of /etc/gatepost/gatepost.yaml, and its ids and address.
func (h *documentedHouse) shell(line string) error {
	h.t.Helper()
	id := h.refused
	if strings.Contains(line, "quarantine") && strings.Contains(line, exampleID) {
		id = h.deliver("money", "250")
	}
	line = strings.NewReplacer(exampleID+".1", id, exampleID, strings.TrimSuffix(id, ".1"), "/etc/gatepost/gatepost.yaml", h.file,
		"http://127.0.0.1:8025/", "http://"+h.admin+"/").Replace(line)
	ctx, cancel := context.WithTimeout(h.t.Context(), 3*patience)
	defer cancel()
	// A command that takes -c and is not told gets the house's.
	script := `gatepost() {
	case " $* " in
	*" -c "*|*" admin "*) command gatepost "$@" ;;
	*) command gatepost "$@" -c "$HOUSE" ;;
	esac
}
set -o pipefail
` + line + "\n"
	command := exec.CommandContext(ctx, "bash", "-c", script)
	command.Dir = h.folder
	command.Env = append(os.Environ(), "HOUSE="+h.file, "TZ=UTC")
	command.Stdin = strings.NewReader("correct horse\n")
	command.WaitDelay = time.Second
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", line, err, output)
	}
	return nil
}
