package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// manual are the pages that a reader copies from, by their names below the module.
func manual(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/*/*.md", "filters/*/README.md"} {
		found, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(filepath.Join("..", ".."), path)
			pages[name] = string(text)
		}
	}
	return pages
}

// A fence is a block of a page; info are the words behind its opening: `sh` is to be run, and words behind that say why
// it is not.
type fence struct{ page, info, text string }

var fences = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")

func fencesOf(page, text string) (found []fence) {
	for _, m := range fences.FindAllStringSubmatch(text, -1) {
		found = append(found, fence{page, strings.TrimSpace(m[1]), m[2]})
	}
	return found
}

// documented is the block of docs/mta/PAGE.md with a text in it: the tests with real mail servers take their lines from
// there.
func documented(t *testing.T, page, with string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "mta", page+".md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fencesOf(page, string(text)) {
		if f.info == "" && strings.Contains(f.text, with) {
			return f.text
		}
	}
	t.Fatalf("docs/mta/%s.md has no block with %q", page, with)
	return ""
}

// The README has the lines of the pages.
func TestTheReadmeHasTheSameLines(t *testing.T) {
	readme := manual(t)["README.md"]
	for page, with := range map[string]string{"postfix": "smtpd_authorized_xclient_hosts", "exim": "hosts_proxy"} {
		if lines := documented(t, page, with); !strings.Contains(readme, "\n"+lines) {
			t.Errorf("README.md does not have the lines of docs/mta/%s.md:\n%s", page, lines)
		}
	}
}

func TestEveryPageIsListed(t *testing.T) {
	pages := manual(t)
	for name := range pages {
		if below, ok := strings.CutPrefix(name, "docs/"); ok && below != "README.md" && !strings.Contains(pages["docs/README.md"], "]("+below+")") {
			t.Errorf("docs/README.md does not list %s", below)
		}
	}
}

// parseCommand holds a command line against the commands that there are: names, flags, number of arguments.
func parseCommand(words []string) (*cobra.Command, error) {
	cmd, rest, err := command().Find(words)
	if err != nil {
		return nil, err
	}
	if cmd.DisableFlagParsing {
		return cmd, nil
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return cmd, err
	}
	if !cmd.Runnable() {
		if args := cmd.Flags().Args(); len(args) > 0 {
			return cmd, fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])
		}
		return cmd, nil
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return cmd, err
	}
	return cmd, cmd.ValidateRequiredFlags()
}

func TestParseCommand(t *testing.T) {
	for line, good := range map[string]bool{
		"why 38G29KFPP00XD.1": true, "journal --since 2d": true, "allow add 192.0.2.7 --for 30d": true, "serve -c /etc/x": true,
		"wyh X": false, "why": false, "journal --sinse 2d": false, "allow ad X": false, "check surplus": false, "journal --limit many": false,
	} {
		if _, err := parseCommand(strings.Fields(line)); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// Whatever the text names in passing exists, too: `gatepost greylist show SENDER`, with placeholders.
func TestCommandsInTheTextExist(t *testing.T) {
	inline := regexp.MustCompile("`gatepost ([a-z][^`]*)`")
	checked := 0
	for name, text := range manual(t) {
		for _, m := range inline.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
			var words []string
			for _, w := range strings.Fields(m[1]) {
				if strings.Contains(w, "…") {
					break
				}
				w, _, _ = strings.Cut(w, "|") // list|show|forget
				words = append(words, w)
			}
			cmd, rest, err := command().Find(words)
			if err == nil && cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				err = fmt.Errorf("%s has no command %q", cmd.CommandPath(), rest[0])
			}
			for _, w := range rest {
				flag, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
				known := cmd.Flags().Lookup(flag) != nil || cmd.InheritedFlags().Lookup(flag) != nil || len(flag) == 1 && (cmd.Flags().ShorthandLookup(flag) != nil || cmd.InheritedFlags().ShorthandLookup(flag) != nil)
				if strings.HasPrefix(w, "-") && flag != "" && flag != "help" && !known {
					err = fmt.Errorf("%s has no flag %s", cmd.CommandPath(), w)
				}
			}
			if err != nil && !slices.Contains(cobraOwn, words[0]) {
				t.Errorf("%s: `gatepost %s`: %v", name, m[1], err)
			}
			checked++
		}
	}
	fmt.Printf("docs: %d commands that the text names exist\n", checked)
}

// cobraOwn are commands that cobra adds when one is run.
var cobraOwn = []string{"help", "completion"}

// makeTargets are those of the Makefile.
func makeTargets(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(string(text), -1) {
		targets = append(targets, m[1])
	}
	return targets
}

// literals are all strings in the source of the running process, tests excepted.
func literals(t *testing.T) []string {
	t.Helper()
	var texts []string
	for _, top := range []string{"proxy", "policy", "filters", "rules", "cmd/gatepost"} {
		err := filepath.WalkDir(filepath.Join("..", "..", top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						texts = append(texts, text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return texts
}

// What the manual says the log or a reply says is in the source: `msg="…"` in full or with … at its end, replies of
// Gatepost's own with their text, and in failures.md the column that begins log lines.
func TestQuotedMessagesExist(t *testing.T) {
	all := literals(t)
	somewhere := func(test func(literal string) bool) bool { return slices.ContainsFunc(all, test) }
	quoted := regexp.MustCompile(`msg="([^"\n]+)"`)
	reply := regexp.MustCompile("`[245][0-9]{2} [245]\\.[0-9]{1,3}\\.[0-9]{1,3} ([A-Z][^`{…(]{8,})[^`]*`")
	messages, replies := 0, 0
	for name, text := range manual(t) {
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			messages++
			message, begins := strings.CutSuffix(strings.Join(strings.Fields(m[1]), " "), "…")
			message = strings.TrimSpace(message)
			if !somewhere(func(l string) bool { return l == message || begins && strings.HasPrefix(l, message) }) {
				t.Errorf("%s: nothing logs %q", name, m[1])
			}
		}
		if name != "docs/troubleshooting.md" {
			continue
		}
		for _, m := range reply.FindAllStringSubmatch(text, -1) {
			replies++
			if part := strings.TrimSpace(m[1]); !somewhere(func(l string) bool { return strings.Contains(l, part) }) {
				t.Errorf("%s: nothing answers %q", name, m[1])
			}
		}
	}
	for line := range strings.Lines(manual(t)["docs/failures.md"]) {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[2], -1) {
			messages++
			for _, joined := range []string{"not kept: ", "quarantine: "} { // what stands behind it is put there when it happens
				m[1] = strings.TrimPrefix(m[1], joined)
			}
			if !somewhere(func(l string) bool { return strings.HasPrefix(l, m[1]) }) {
				t.Errorf("docs/failures.md: nothing logs %q", m[1])
			}
		}
	}
	if messages < 30 || replies < 5 {
		t.Errorf("only %d messages and %d replies found", messages, replies)
	}
	fmt.Printf("docs: %d log messages and %d replies are those of the source\n", messages, replies)
}

func haveProgram(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}
