package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/proxy/config"
)

var root = filepath.Join("..", "..")

// compile loads a configuration as `gatepost check` does.
func compile(t *testing.T, name, text string) config.Problems {
	t.Helper()
	c, problems := config.Parse(name, []byte(text), all.Specs())
	if c == nil {
		return problems
	}
	_, more := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
	return append(problems, more...)
}

// pages are the documents that a reader copies from.
func pages(t *testing.T) []string {
	t.Helper()
	names := []string{filepath.Join(root, "README.md")}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md", "filters/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		names = append(names, found...)
	}
	return names
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fenced        = regexp.MustCompile("(?s)```yaml\n(.*?)```")
	configuration = regexp.MustCompile(`(?m)^(filters|rules|domains|backend|listen|milter|limits|trusted|admin):`)
	missingList   = regexp.MustCompile(`^the list file ".*" does not exist; it counts as empty$`)
)

// complete adds to an example what every configuration needs.
func complete(example string) string {
	for key, line := range map[string]string{"domains": "domains: [example.org]", "backend": "backend: 127.0.0.1:10025"} {
		if !regexp.MustCompile(`(?m)^` + key + `:`).MatchString(example) {
			example = line + "\n" + example
		}
	}
	// The reference shows the defaults; this one has none.
	return strings.Replace(example, "\n  address: []\n", "\n  address: 127.0.0.1:10025\n", 1)
}

func TestEveryExampleOfTheManualLoads(t *testing.T) {
	examples := 0
	for _, page := range pages(t) {
		for i, match := range fenced.FindAllStringSubmatch(read(t, page), -1) {
			if !configuration.MatchString(match[1]) {
				continue
			}
			examples++
			name := fmt.Sprintf("%s, example %d", strings.TrimPrefix(page, root+"/"), i+1)
			for _, p := range compile(t, name, complete(match[1])) {
				if !p.Warning || !missingList.MatchString(p.Message) {
					t.Error(p)
				}
			}
		}
	}
	if examples < 20 {
		t.Errorf("only %d examples found", examples)
	}
}

// The page of a filter has the sections that all have, and names each of its facts and keys.
func TestPagesOfFilters(t *testing.T) {
	index := read(t, filepath.Join(root, "docs", "README.md"))
	for _, spec := range all.Specs() {
		t.Run(spec.Name, func(t *testing.T) {
			page := read(t, filepath.Join(root, "filters", spec.Name, "README.md"))
			if !strings.HasPrefix(page, "# "+spec.Name+"\n") {
				t.Errorf("the title is not %q", spec.Name)
			}
			var sections []string
			for _, match := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(page, -1) {
				sections = append(sections, match[1])
			}
			if want := []string{"What it observes", "Facts", "Configuration", "Examples"}; !reflect.DeepEqual(sections, want) {
				t.Errorf("sections %q, want %q", sections, want)
			}
			group := spec.Name
			if spec.Several {
				group += ".NAME"
			}
			for _, o := range spec.Observations {
				for i := range o.Facts.NumField() {
					fact := o.Facts.Field(i).Tag.Get("fact")
					if fact != "" && !strings.Contains(page, "`"+group+"."+fact+"`") {
						t.Errorf("the fact %s.%s is not on the page", group, fact)
					}
				}
			}
			for _, key := range keys(reflect.TypeOf(spec.NewConfig()).Elem()) {
				if !regexp.MustCompile("(?m)`([a-z_]+\\[\\]\\.)?" + key + "`|^ +" + key + ":").MatchString(page) {
					t.Errorf("the key %s is not on the page", key)
				}
			}
			if !strings.Contains(page, "```yaml\n") {
				t.Error("there is no example")
			}
			if !strings.Contains(index, "| ["+spec.Name+"](../filters/"+spec.Name+"/README.md) |") {
				t.Error("docs/README.md does not list the filter")
			}
		})
	}
}

// keys are the names of all keys of a configuration, nested ones included.
func keys(t reflect.Type) []string {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
			names = append(append(names, name), keys(f.Type)...)
		}
	}
	return names
}

func TestLinksOfTheManualLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), match[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// The default rules never give two recipients of one message different answers about the message.
func TestTheDefaultRulesNeverSplit(t *testing.T) {
	definitions, problems := config.DefaultRules()
	if len(problems) > 0 || len(definitions) == 0 {
		t.Fatal(problems)
	}
	var text strings.Builder // as a file of one's own, in which every warning is told
	text.WriteString("domains: [example.org]\nbackend: 127.0.0.1:10025\nrules:\n")
	for line := range strings.Lines(read(t, filepath.Join(root, "rules", "default.yaml"))) {
		text.WriteString("  " + line)
	}
	for _, p := range compile(t, "default.yaml", text.String()) {
		if !p.Warning || !missingList.MatchString(p.Message) {
			t.Error(p)
		}
	}
	// The same test finds a rule that does split.
	text.WriteString("  - {name: split, when: 'rcpt.local == \"strict\" and dmarc.result == \"fail\"', then: reject}\n")
	if problems := compile(t, "default.yaml", text.String()); !strings.Contains(problems.Error(), "split can split recipients") {
		t.Errorf("a rule that splits is not named: %v", problems)
	}
}
