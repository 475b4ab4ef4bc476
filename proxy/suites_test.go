package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest/suites"
)

// otherCodes are the places in chasquid's dialogues where our reply has another code than chasquid's, "file:line", with
// the reason.
var otherCodes = map[string]string{
	"bad_data.cmy:35":                        "a header line that is none is the backend's business: mail is relayed as it is",
	"bad_data_dot.cmy:28":                    "line_endings: strict says 550 5.6.0, and the session goes on",
	"bad_data_dot_2.cmy:28":                  "line_endings: strict says 550 5.6.0, and the session goes on",
	"bad_data_dot_on_message_too_big.cmy:36": "552: that it is too large was known first",
	"bad_mail_from.cmy:8":                    "the verb is known, its argument is wrong: 501",
	"bad_mail_from.cmy:11":                   "the verb is known, its argument is wrong: 501",
	"bad_rcpt_to.cmy:11":                     "the verb is known, its argument is wrong: 501",
	"bad_rcpt_to.cmy:14":                     "the verb is known, its argument is wrong: 501",
	"bad_rcpt_to.cmy:41":                     "RFC 6531, 3.5: 553 5.6.7, since it needs SMTPUTF8",
	"line_too_long.cmy:5":                    "RFC 5321, 4.5.3.1.9: 500",
	"wrong_proto.cmy:5":                      "554, as for every service that is not here",
	"wrong_proto.cmy:10":                     "554, as for every service that is not here",
	"wrong_proto.cmy:15":                     "554, as for every service that is not here",
}

// outOfScope are dialogues about what this proxy does not have.
var outOfScope = map[string]string{
	"auth_multi_dialog.cmy":      "no AUTH",
	"auth_not_tls.cmy":           "no AUTH",
	"auth_too_many_failures.cmy": "no AUTH",
}

// TestChasquidDialogues plays a foreign server's dialogues and compares reply codes.
func TestChasquidDialogues(t *testing.T) {
	folder := suites.Path(t, "smtp/chasquid-dialogues")
	files, err := filepath.Glob(filepath.Join(folder, "*.cmy"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues in %s: %v", folder, err)
	}
	passed, total := 0, 0
	for _, file := range files {
		name := filepath.Base(file)
		if outOfScope[name] != "" {
			continue
		}
		total++
		ok := t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			playChasquid(t, name, string(text))
		})
		if ok {
			passed++
		}
	}
	fmt.Printf("suite chasquid-dialogues: %d/%d (%d out of scope)\n", passed, total, len(outOfScope))
}

// bareRecipient matches what chasquid takes and we do not.
var bareRecipient = regexp.MustCompile("^RCPT TO: ([^<]+)$")

func playChasquid(t *testing.T, name, text string) {
	u := setup{limits: func(l *Limits) { l.MessageSize, l.LineLength = filters.Size(1<<20), 1000 }}
	if strings.HasPrefix(name, "bad_data_dot") {
		u.ending = 1 // strict
	}
	h := start(t, u)
	var c *client
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		command, ok := strings.CutPrefix(line, "c ")
		if !ok {
			continue
		}
		verb, rest, _ := strings.Cut(command, " ")
		switch verb {
		case "tcp_connect":
			c = h.dial()
		case "tls_connect":
			c = h.dial()
			over := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
			c.Conn, c.r = over, bufio.NewReader(over)
		case "close":
			c.Close()
		case "->":
			if bare := bareRecipient.FindStringSubmatch(rest); bare != nil {
				// RFC 5321, 4.1.1.3 wants angle brackets, and nobody can tell where an address without them ends.
				c.say(rest, "501 5.1.3")
				rest = "RCPT TO:<" + bare[1] + ">"
			}
			c.send(rest + "\r\n")
		case "~>":
			c.send(pythonString(t, rest))
		case "<...": // read up to that line
			if got := c.reply(); !strings.HasPrefix(got, rest[:3]) {
				t.Fatalf("line %d: got %q, want %s", n, got, rest[:3])
			}
		case "<~", "<-":
			got, place := c.reply(), fmt.Sprintf("%s:%d", name, n)
			same := regexp.MustCompile("^" + rest[:3]).MatchString(got)
			if same == (otherCodes[place] != "") {
				t.Errorf("%s: got %q, chasquid says %q; other code expected: %v", place, got, rest, !same)
			}
		default:
			t.Fatalf("line %d: %q", n, line)
		}
	}
}

// pythonString evaluates the little Python that the dialogues use: literals, "+" and "* number", parentheses.
func pythonString(t *testing.T, s string) string {
	t.Helper()
	value, rest := pythonSum(t, s)
	if strings.TrimSpace(rest) != "" {
		t.Fatalf("cannot evaluate %q", s)
	}
	return value
}

func pythonSum(t *testing.T, s string) (value, rest string) {
	for {
		var part string
		part, s = pythonProduct(t, s)
		value += part
		after, ok := strings.CutPrefix(strings.TrimLeft(s, " "), "+")
		if !ok {
			return value, s
		}
		s = after
	}
}

func pythonProduct(t *testing.T, s string) (value, rest string) {
	s = strings.TrimLeft(s, " ")
	if after, ok := strings.CutPrefix(s, "("); ok {
		value, s = pythonSum(t, after)
		s = strings.TrimPrefix(s, ")")
	} else {
		end := 1 + strings.IndexByte(s[1:], '\'')
		unquoted, err := strconv.Unquote(`"` + s[1:end] + `"`)
		if err != nil {
			t.Fatalf("cannot evaluate %q: %v", s, err)
		}
		value, s = unquoted, s[end+1:]
	}
	after, ok := strings.CutPrefix(strings.TrimLeft(s, " "), "*")
	if !ok {
		return value, s
	}
	after = strings.TrimLeft(after, " ")
	digits := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
	count, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatalf("cannot evaluate %q: %v", s, err)
	}
	return strings.Repeat(value, count), after[len(digits):]
}
