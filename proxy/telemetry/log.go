// Package telemetry is what an operator reads at 3 a.m.: one log line for every mail transaction, and for every session
// that ended without one.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/rules"
)

// Config is the section `log:`.
type Config struct {
	// Format of the lines on standard error: text (key=value) or json.
	Format string `yaml:"format" values:"text json"`
	// Level below which nothing is logged: debug, info, warn or error.
	Level Level `yaml:"level" values:"debug info warn error"`
}

// Level is how much is logged: a slog.Level that is written as in the configuration.
type Level slog.Level

var levels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// UnmarshalText takes debug, info, warn or error.
func (l *Level) UnmarshalText(text []byte) error {
	level, ok := levels[strings.ToLower(string(text))]
	if !ok {
		return fmt.Errorf("%q is none of debug, info, warn, error", text)
	}
	*l = Level(level)
	return nil
}

// MarshalText writes the level as UnmarshalText reads it.
func (l Level) MarshalText() ([]byte, error) {
	return []byte(strings.ToLower(slog.Level(l).String())), nil
}

// Default returns text at level info.
func Default() Config { return Config{Format: "text"} }

// Validate answers with filters.KeyErrors.
func (c *Config) Validate() error {
	var errs filters.KeyErrors
	if c.Format != "text" && c.Format != "json" {
		errs.Add("format", "%q is neither text nor json", c.Format)
	}
	return errs.OrNil()
}

// NewLogger makes the process's logger. [Reload] changes it.
func NewLogger(c Config, w io.Writer) *slog.Logger { return slog.New(newSwitchable(c, w)) }

// Recorder writes records to a log. It is safe for concurrent use.
type Recorder struct{ Log *slog.Logger }

// Record writes one line. Sessions are told by their transactions: their own line is at level debug, but for those that
// a rule has ended or refused before any.
func (r Recorder) Record(rec *policy.Record) {
	level := slog.LevelInfo
	if rec.Kind == policy.SessionRecord && rec.Refused == nil {
		level = slog.LevelDebug
	}
	ctx := context.Background()
	if !r.Log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 20)
	attrs = append(attrs, slog.String("id", rec.ID), slog.String("client", rec.Session.Client.Addr().String()))
	if rec.Greeting != nil {
		attrs = append(attrs, slog.String("helo", rec.Greeting.Name))
	}
	if rec.Envelope != nil {
		attrs = append(attrs, slog.String("from", "<"+rec.Envelope.ReversePath+">"), recipients(rec.Recipients))
	}
	attrs = append(attrs, slog.String("verdict", VerdictOf(rec).String()))
	attrs = append(attrs, matches(rec.Matched)...)
	attrs = appendEnding(attrs, rec)
	attrs = append(attrs, slog.Duration("took", rec.End.Sub(rec.Start).Round(100_000)), slog.String("facts", facts(rec)))
	if failed := failures(rec.Filters); failed != "" {
		attrs = append(attrs, slog.String("failed", failed))
	}
	// Logger.LogAttrs would look who has called it, which nobody reads: that was 2 % of the processor time of a session that
	// is refused.
	line := slog.NewRecord(time.Now(), level, rec.Kind, 0)
	line.AddAttrs(attrs...)
	r.Log.Handler().Handle(ctx, line)
}

// maxRecipientsLogged keeps a line readable; the journal has them all.
const maxRecipientsLogged = 10

func recipients(all []policy.RecipientRecord) slog.Attr {
	var room [256]byte
	text := room[:0]
	for i := range all {
		r := &all[i]
		if i == maxRecipientsLogged {
			text = fmt.Appendf(text, " and %d more", len(all)-i)
			break
		}
		if i > 0 {
			text = append(text, ' ')
		}
		text = append(append(append(text, '<'), r.Address...), '>')
		if r.Reply.Code/100 != 2 {
			text = strconv.AppendInt(append(text, '='), int64(r.Reply.Code), 10)
		}
	}
	return slog.String("to", string(text))
}

// matches names the rules that applied and those that were only watched, each once.
func matches(all []policy.Match) []slog.Attr {
	if len(all) == 0 {
		return nil
	}
	var enforced, observed []string
	for _, m := range all {
		text := m.Rule.Name + "@" + m.Rule.Pos.File + ":" + strconv.Itoa(m.Rule.Pos.Line)
		switch {
		case slices.Contains(enforced, text) || slices.Contains(observed, text):
		case m.Observed:
			observed = append(observed, text)
		default:
			enforced = append(enforced, text)
		}
	}
	var attrs []slog.Attr
	if len(enforced) > 0 {
		attrs = append(attrs, slog.String("rule", strings.Join(enforced, " ")))
	}
	if len(observed) > 0 {
		attrs = append(attrs, slog.String("observed", strings.Join(observed, " ")))
	}
	return attrs
}

// appendEnding tells what the client was told last: at the end of data, or else to a recipient who was refused.
func appendEnding(attrs []slog.Attr, rec *policy.Record) []slog.Attr {
	e, reply := &rec.Ending, &rec.Ending.Reply
	if rec.Refused != nil && reply.Code == 0 {
		reply = &rec.Refused.Reply
	}
	for i := range rec.Recipients {
		if refused := &rec.Recipients[i].Reply; reply.Code == 0 && refused.Code/100 != 2 {
			reply = refused
		}
	}
	if reply.Code != 0 {
		attrs = append(attrs, slog.String("reply", spoken(reply)))
	}
	attrs = appendNonEmpty(attrs, "backend", e.Backend)
	attrs = appendNonEmpty(attrs, "queue_id", e.QueueID)
	if e.Size > 0 {
		attrs = append(attrs, slog.Int64("size", e.Size))
	}
	attrs = appendNonEmpty(attrs, "line_endings", e.Normalized)
	return appendNonEmpty(attrs, "note", e.Note)
}

func appendNonEmpty(attrs []slog.Attr, key, value string) []slog.Attr {
	if value == "" {
		return attrs
	}
	return append(attrs, slog.String(key, value))
}

func spoken(r *rules.Reply) string {
	var room [256]byte
	text := strconv.AppendInt(room[:0], int64(r.Code), 10)
	if r.Enhanced != "" {
		text = append(append(text, ' '), r.Enhanced...)
	}
	return string(append(append(text, ' '), r.Text...))
}

// facts writes what filters found out. What the gate itself knows stands in the line already.
func facts(rec *policy.Record) string {
	var room [2048]byte // twice of what a message has with all filters on
	return string(rec.Facts.AppendText(room[:0], policy.Builtin))
}

func failures(all []policy.FilterRecord) string {
	var texts []string
	for _, f := range all {
		if f.Status == "timeout" || f.Status == "error" {
			texts = append(texts, fmt.Sprintf("%s: %s", f.Name, f.Error))
		}
	}
	return strings.Join(texts, "; ")
}
