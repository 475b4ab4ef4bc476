package admin

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"gatepost/policy"
	"gatepost/policy/replay"
	"gatepost/proxy/journal"
	"gatepost/proxy/telemetry"
)

// templateFuncs are how templates write values.
var templateFuncs = template.FuncMap{
	"when": when, "clock": clock, "ago": ago, "number": grouped, "bytes": byteSize, "percent": percent, "join": strings.Join,
	"replyLines": journal.ReplyLines, "millis": millis, "seconds": seconds, "iso": iso, "value": valueText, "isTransaction": isTransaction,
	"changeText": changeText, "secondsText": secondsText, "count": func(list []OpenSession) int64 { return int64(len(list)) }, "lastReply": lastReply, "outcome": verdictOf, "first": first[replay.Mention], "reportOf": reportOf,
	"difference": func(was, is int) string { return fmt.Sprintf("%+d", is-was) },
}

func isTransaction(e *journal.Entry) bool { return e.Kind == policy.TransactionRecord }

// when is a time for a table.
func when(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// clock is a time of day for the axis of a chart.
func clock(t time.Time) string { return t.Local().Format("15:04") }

// iso is a time for the attribute datetime, and for a search's bounds.
func iso(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// ago is how long it is from a time to now, roughly.
func ago(t, now time.Time) string { return rough(now.Sub(t)) }

func rough(d time.Duration) string {
	switch d = d.Abs(); {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}

// grouped writes 1234567 as 1,234,567.
func grouped(n any) string {
	text := fmt.Sprint(n)
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return sign + text
}

// byteSize writes a size with its unit.
func byteSize(n any) string {
	size, _ := strconv.ParseFloat(fmt.Sprint(n), 64)
	for _, unit := range []string{"bytes", "KiB", "MiB", "GiB"} {
		if size < 1024 {
			if unit == "bytes" || size >= 100 {
				return fmt.Sprintf("%.0f %s", size, unit)
			}
			return fmt.Sprintf("%.1f %s", size, unit)
		}
		size /= 1024
	}
	return fmt.Sprintf("%.1f TiB", size)
}

// percent is a share, with a digit behind the point where it is small.
func percent(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	p := 100 * float64(part) / float64(whole)
	if p > 0 && p < 10 {
		return strconv.FormatFloat(math.Ceil(p*10)/10, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(math.Round(p), 'f', 0, 64) + " %"
}

func millis(ms float64) string {
	switch {
	case ms >= 1000:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	case ms >= 10:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'f', 2, 64) + " ms"
}

func seconds(d time.Duration) string {
	if d < time.Minute {
		return millis(float64(d) / float64(time.Millisecond))
	}
	return d.Round(time.Second).String()
}

// valueText is a fact's value as rules write it.
func valueText(v any) string {
	switch v := v.(type) {
	case nil:
		return "not known"
	case string:
		return strconv.Quote(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []string:
		quoted := make([]string, len(v))
		for i := range v {
			quoted[i] = strconv.Quote(v[i])
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprint(v)
}

// lastReply is the last line of the last word to the client.
func lastReply(e *journal.Entry) string {
	reply, _ := e.Reply()
	if reply.Code == 0 {
		return ""
	}
	lines := journal.ReplyLines(reply)
	return lines[len(lines)-1]
}

// changeText is a change in a sentence.
func changeText(c *journal.Change) string { return c.Text(when) }

// verdictOf is an entry's verdict. A session that nobody refused has none: it just ended.
func verdictOf(e *journal.Entry) string {
	if e.Change != nil {
		return e.Kind
	}
	if !isTransaction(e) && e.Verdict == telemetry.Abandon.String() {
		return "ended"
	}
	return e.Verdict
}

// Address is one of the network's, to look for.
func (n ClientNetwork) Address() string {
	address, _, _ := strings.Cut(n.Network, "/")
	return address
}

// recent is what tells how a filter does: what happened of late, or else since the start.
func (f Filter) recent() Answers {
	if f.Late.Asked() > 0 {
		return f.Late
	}
	return f.Answers
}

// State says in a word how a filter does.
func (f Filter) State() string {
	switch a := f.recent(); {
	case f.Circuit != nil && f.Circuit.Open:
		return "not asked for now"
	case a.Asked() == 0:
		return "not asked yet"
	case a.failed() == 0:
		return "well"
	case a.failed()*2 > a.Asked():
		return "failing"
	default:
		return percent(a.failed(), a.Asked()) + " failed"
	}
}

// Mood is the class of State for the style sheet.
func (f Filter) Mood() string {
	switch a := f.recent(); {
	case f.Circuit != nil && f.Circuit.Open:
		return "off"
	case a.Asked() == 0:
		return ""
	case a.failed() == 0:
		return "on"
	case a.failed()*2 > a.Asked():
		return "off"
	default:
		return "warn"
	}
}

func (a Answers) failed() int64 { return a.Timeout + a.Error }

// secondsText is a span that is given in seconds.
func secondsText(s float64) string {
	return rough(time.Duration(s * float64(time.Second)))
}

// Shares are the outcomes that there were.
func (r Rule) Shares() (list []legendItem) {
	for i, verdict := range telemetry.Verdicts {
		if r.Outcomes[i] > 0 {
			list = append(list, legendItem{verdict, uint64(r.Outcomes[i])})
		}
	}
	return list
}

// shownReport is a report, and how many transactions of each group are named.
type shownReport struct {
	Report *replay.Report
	Shown  int
}

func reportOf(r *replay.Report, shown int) shownReport { return shownReport{r, shown} }

// first is the beginning of a list.
func first[T any](list []T, n int) []T { return list[:min(len(list), n)] }
