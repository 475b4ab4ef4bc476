package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestLinesCanBeShown: whatever a client says, a line of the log is one line without control characters, and JSON keeps
// what was said.
func TestLinesCanBeShown(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		said := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.SampledFrom([]string{"\u009b2J", "\x7f", "\x1b[2J\r\n", "\u202e", "a\nb", "\U000e0001"})).Draw(r, "said")
		for _, format := range []string{"text", "json"} {
			var b bytes.Buffer
			NewLogger(Config{Format: format}, &b).Info("x", "said", said)
			line, found := strings.CutSuffix(b.String(), "\n")
			if !found || strings.ContainsFunc(line, func(c rune) bool { return c != ' ' && !unicode.IsPrint(c) && c != unicode.ReplacementChar }) {
				r.Fatalf("%s: %q", format, b.String())
			}
			if format == "text" {
				continue
			}
			var back map[string]any
			if err := json.Unmarshal(b.Bytes(), &back); err != nil {
				r.Fatalf("%v: %q", err, b.String())
			}
			want := strings.Map(func(c rune) rune {
				if c > 0xffff && !unicode.IsPrint(c) {
					return unicode.ReplacementChar
				}
				return c
			}, said)
			if utf8.ValidString(said) && back["said"] != want {
				r.Fatalf("said %q, logged %q", said, back["said"])
			}
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	log := NewLogger(Config{Format: "json"}, &bytes.Buffer{})
	b.ReportAllocs()
	for b.Loop() {
		log.LogAttrs(b.Context(), slog.LevelInfo, "transaction", slog.String("helo", "client.example.org"))
	}
}
