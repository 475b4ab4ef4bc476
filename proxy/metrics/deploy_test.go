package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const deploy = "../../deploy"

// ruleFile is a file of alert rules, as far as they use it.
type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for,omitempty"`
			Labels      map[string]string `yaml:"labels,omitempty"`
			Annotations map[string]string `yaml:"annotations,omitempty"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

func alerts(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "prometheus", "gatepost.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file ruleFile
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if list[r.Alert] != "" || r.Alert == "" || r.Annotations["summary"] == "" ||
				!slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("the alert %q is there twice, or has no summary or severity", r.Alert)
			}
			list[r.Alert] = r.Expr
		}
	}
	return list
}

// panel is a panel of a dashboard, as far as it matters here.
type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct{ X, Y, W, H int }
	Targets []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
}

func dashboard(t *testing.T) (panels []panel, whole string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, "grafana", "gatepost.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title         string  `json:"title"`
		UID           string  `json:"uid"`
		SchemaVersion int     `json:"schemaVersion"`
		Panels        []panel `json:"panels"`
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 30 || len(d.Panels) == 0 {
		t.Errorf("no dashboard: %q %q %d, %d panels", d.Title, d.UID, d.SchemaVersion, len(d.Panels))
	}
	return d.Panels, string(text)
}

// A panel that Grafana would push aside or drop has the id or the place of another.
func TestTheDashboardLoads(t *testing.T) {
	panels, text := dashboard(t)
	ids := map[int]bool{}
	for i, p := range panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d (%q) has the id of another, or no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q shows nothing", p.Title)
		}
		for _, q := range panels[:i] {
			a, b := p.GridPos, q.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H || a.X+a.W > 24 {
				t.Errorf("%q lies over %q", p.Title, q.Title)
			}
		}
	}
	for _, used := range regexp.MustCompile(`\$(\w+)`).FindAllStringSubmatch(text, -1) {
		if name := used[1]; !strings.HasPrefix(name, "__") && !strings.Contains(text, `"name": "`+name+`"`) {
			t.Errorf("the variable $%s is not declared", name)
		}
	}
}

// expressions are all queries of dashboard and alerts, with the dashboard's variables filled in.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	list := map[string]string{}
	for name, expr := range alerts(t) {
		list["alert "+name] = expr
	}
	filled := strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*")
	panels, _ := dashboard(t)
	for _, p := range panels {
		for _, target := range p.Targets {
			list["panel "+p.Title+" "+target.RefID] = filled.Replace(target.Expr)
		}
	}
	return list
}

func TestQueriesNameMetricsThatThereAre(t *testing.T) {
	known := map[string]Metric{"up": {Name: "up", Kind: Gauge}}
	runtime, err := Runtime()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(runtime, Declared()...) {
		m.Kind = Kind(strings.ToLower(string(m.Kind)))
		known[m.Name] = m
	}
	all := expressions(t)
	if len(all) < 50 {
		t.Fatalf("only %d queries were found", len(all))
	}
	for place, expr := range all {
		for _, problem := range checkQuery(expr, known) {
			t.Errorf("%s: %s\n%s", place, problem, expr)
		}
	}
}

// Whatever part of Gatepost has metrics is on the dashboard, where an operator looks first.
func TestTheDashboardShowsEachPart(t *testing.T) {
	panels, _ := dashboard(t)
	shown := ""
	for _, p := range panels {
		for _, target := range p.Targets {
			shown += target.Expr + "\n"
		}
	}
	parts := map[string]int{}
	for _, m := range Declared() {
		part, _, _ := strings.Cut(strings.TrimPrefix(m.Name, "gatepost_"), "_")
		parts[part]++
	}
	for part, n := range parts {
		if n >= 3 && !strings.Contains(shown, "gatepost_"+part+"_") {
			t.Errorf("no panel shows one of the %d metrics gatepost_%s_…", n, part)
		}
	}
	for _, name := range []string{"gatepost_filter_milter_paused", "gatepost_store_standings", "gatepost_quarantine_expiring_messages"} {
		if !strings.Contains(shown, name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// The check must be able to fail.
func TestTheCheckOfQueries(t *testing.T) {
	known := map[string]Metric{
		"c_total": {Name: "c_total", Kind: Counter, Labels: []string{"a"}}, "g": {Name: "g", Kind: Gauge}, "h": {Name: "h", Kind: Histogram},
	}
	for expr, want := range map[string]bool{
		`sum by (a) (rate(c_total{a="x", job="y"}[5m]))`: true, "g > 0 and on (instance) g": true, "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))": true,
		"missing": false, "c_total": false, `g{a="x"}`: false, "sum by (b) (g)": false, "rate(c_total[5m]": false, "g)": false, "h": false,
		"rate(g_bucket[5m])": false, `rate(c_total{b=~"x"}[5m])`: false, "g / (g": false, "rate(c_total)": false, "nonsense(g)": false,
	} {
		if problems := checkQuery(expr, known); (len(problems) == 0) != want {
			t.Errorf("%s: %q", expr, problems)
		}
	}
}

var (
	quoted     = regexp.MustCompile(`"[^"]*"`)
	word       = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*`)
	grouping   = regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
	selector   = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(\{[^}]*\})?\s*(\[[^\]]*\])?`)
	matcher    = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)`)
	vocabulary = strings.Fields("sum min max avg count rate increase changes histogram_quantile vector time by on without ignoring and or unless bool m")
)

// checkQuery finds what is wrong with a query, as far as can be told without Prometheus: unknown metrics, labels that a
// metric does not have, counters that are looked at as they are, brackets.
func checkQuery(expr string, known map[string]Metric) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	expr = quoted.ReplaceAllString(expr, `""`)
	var open []rune
	pairs := map[rune]rune{')': '(', ']': '[', '}': '{'}
	for _, r := range expr {
		switch r {
		case '(', '[', '{':
			open = append(open, r)
		case ')', ']', '}':
			if len(open) == 0 || open[len(open)-1] != pairs[r] {
				problem("a %c too many", r)
				return problems
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		problem("%q is not closed", string(open))
	}
	labels := []string{"instance", "job", "le"}
	body := grouping.ReplaceAllString(expr, "by")
	for _, at := range selector.FindAllStringSubmatchIndex(body, -1) {
		name := body[at[2]:at[3]]
		if slices.Contains(vocabulary, name) || at[2] > 0 && body[at[2]-1] >= '0' && body[at[2]-1] <= '9' {
			continue
		}
		m, bucket := known[name], false
		if base, ok := strings.CutSuffix(name, "_bucket"); ok {
			m, bucket = known[base], true
		}
		before := strings.TrimSpace(body[:at[2]])
		isRate := strings.HasSuffix(before, "rate(") || strings.HasSuffix(before, "increase(")
		switch counts := m.Kind == Counter || bucket; {
		case m.Name == "":
			problem("there is no metric %s", name)
			continue
		case bucket != (m.Kind == Histogram):
			problem("%s and its buckets are two things", m)
		case counts != isRate || counts != (at[6] >= 0):
			problem("%s: a counter wants rate or increase over a range, and nothing else does", m)
		}
		labels = append(labels, m.Labels...)
		if at[4] < 0 {
			continue
		}
		for _, used := range matcher.FindAllStringSubmatch(body[at[4]:at[5]], -1) {
			if !slices.Contains(append([]string{"instance", "job"}, m.Labels...), used[1]) {
				problem("%s has no label %s", m, used[1])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, name := range word.FindAllString(g[1], -1) {
			if !slices.Contains(labels, name) {
				problem("no metric here has the label %s", name)
			}
		}
	}
	return problems
}

// Where Prometheus' own tool is installed (Debian: prometheus), it has the last word.
func TestPromtoolTakesTheQueries(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed: only names and brackets of the queries were checked")
		return
	}
	run := func(args ...string) {
		t.Helper()
		if output, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", args, err, output)
		}
	}
	run("check", "rules", filepath.Join(deploy, "prometheus", "gatepost.rules.yaml"))
	run("test", "rules", filepath.Join(deploy, "prometheus", "gatepost.rules.test.yaml"))
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	i := 0
	for _, expr := range expressions(t) {
		i++
		quoted, err := json.Marshal(expr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&rules, "      - {record: \"q:%d\", expr: %s}\n", i, quoted)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", file)
}
