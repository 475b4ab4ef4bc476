package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"gatepost/policy"
	"gatepost/proxy/journal"
	"gatepost/proxy/telemetry"
	"gatepost/rules"
)

// recordJSON is a record as `eval --json` prints it.
type recordJSON struct {
	Verdict    string                    `json:"verdict"`
	Reply      string                    `json:"reply"`
	Rule       *ruleJSON                 `json:"rule,omitempty"`
	Facts      map[string]map[string]any `json:"facts"`
	Rules      []ruleJSON                `json:"rules"`
	Recipients []recipientJSON           `json:"recipients"`
	Filters    []journal.FilterJSON      `json:"filters"`
}

type ruleJSON struct {
	Name      string `json:"name"`
	Action    string `json:"action"`
	Place     string `json:"place"`
	Observed  bool   `json:"observed,omitempty"`
	Recipient string `json:"recipient,omitempty"`
}

type recipientJSON struct {
	Address string `json:"address"`
	Reply   string `json:"reply"`
}

func replyText(r rules.Reply) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", r.Code, r.Enhanced, r.Text))
}

func matchJSON(m policy.Match) ruleJSON {
	return ruleJSON{Name: m.Rule.Name, Action: m.Rule.Action.String(), Place: fmt.Sprintf("%s:%d", m.Rule.Pos.File, m.Rule.Pos.Line),
		Observed: m.Observed, Recipient: m.Recipient}
}

// writeRecordJSON prints every fact there is, those that are absent as null, and a list as a list even if it is empty:
// whoever reads one need not ask whether it is there.
func writeRecordJSON(w io.Writer, schema *rules.Schema, r *policy.Record) error {
	out := recordJSON{Verdict: telemetry.VerdictOf(r).String(), Reply: replyText(r.Ending.Reply), Facts: map[string]map[string]any{},
		Rules: []ruleJSON{}, Recipients: []recipientJSON{}, Filters: []journal.FilterJSON{}}
	for _, fact := range schema.Facts() {
		dot := strings.LastIndexByte(fact.Name, '.')
		group, name := fact.Name[:max(dot, 0)], fact.Name[dot+1:]
		if out.Facts[group] == nil {
			out.Facts[group] = map[string]any{}
		}
		value, _ := r.Facts.Lookup(fact.Name)
		if list, isList := value.([]string); isList && list == nil {
			value = []string{}
		}
		out.Facts[group][name] = value
	}
	for _, m := range r.Matched {
		out.Rules = append(out.Rules, matchJSON(m))
		if out.Rule == nil && !m.Observed && m.Rule.Action.Terminal() {
			decisive := matchJSON(m)
			out.Rule = &decisive
		}
	}
	for _, rcpt := range r.Recipients {
		out.Recipients = append(out.Recipients, recipientJSON{rcpt.Address, replyText(rcpt.Reply)})
	}
	for _, f := range r.Filters {
		out.Filters = append(out.Filters, journal.FilterJSON{Name: f.Name, Stage: f.Stage.String(), Status: f.Status, Error: f.Error,
			Millis: float64(f.Duration.Microseconds()) / 1000})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

// writeRecord explains a record to a person.
func writeRecord(w io.Writer, r *policy.Record) error {
	fmt.Fprintln(w, "Facts:")
	r.Facts.All(func(name string, value any) {
		if list, ok := value.([]string); ok {
			value = strings.Join(list, ", ")
		}
		fmt.Fprintf(w, "  %-28s %s\n", name, printable(fmt.Sprint(value)))
	})
	fmt.Fprintln(w, "\nFilters:")
	for _, f := range r.Filters {
		fmt.Fprintf(w, "  %-12s at %-8s %-8s %s\n", f.Name, f.Stage, f.Status, printable(f.Error))
	}
	fmt.Fprintln(w, "\nRules that matched:")
	for _, m := range r.Matched {
		how := ""
		if m.Observed {
			how = "  (observed only)"
		}
		fmt.Fprintf(w, "  %-20s %-9s %s:%d  %s%s\n", m.Rule.Name, m.Rule.Action, m.Rule.Pos.File, m.Rule.Pos.Line, printable(m.Recipient), how)
	}
	if len(r.Matched) == 0 {
		fmt.Fprintln(w, "  none")
	}
	fmt.Fprintln(w, "\nRecipients:")
	for _, rcpt := range r.Recipients {
		fmt.Fprintf(w, "  <%s>  %s\n", printable(rcpt.Address), printable(replyText(rcpt.Reply)))
	}
	_, err := fmt.Fprintf(w, "\nVerdict: %s\n  %s\n", telemetry.VerdictOf(r).String(), printable(replyText(r.Ending.Reply)))
	return err
}

// printable keeps what comes from a message from becoming commands of the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
