package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

// TestReload changes a logger under those who have it, and derived others from it.
func TestReload(t *testing.T) {
	var b bytes.Buffer
	log := NewLogger(Config{Format: "text", Level: Level(slog.LevelWarn)}, &b)
	derived := log.With("client", "192.0.2.1").WithGroup("more")
	derived.Info("not told")
	derived.Warn("told", "key", "value")
	if got := b.String(); strings.Contains(got, "not told") || !strings.Contains(got, "msg=told client=192.0.2.1 more.key=value") {
		t.Errorf("%s", got)
	}
	b.Reset()
	Reload(log, Config{Format: "json", Level: Level(slog.LevelInfo)})
	derived.Info("told now", "key", "value")
	log.Debug("not told")
	var line struct {
		Msg, Client string
		More        struct{ Key string }
	}
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line.Msg != "told now" || line.Client != "192.0.2.1" || line.More.Key != "value" {
		t.Errorf("%v: %s", err, b.String())
	}
	Reload(slog.New(slog.DiscardHandler), Default()) // one of somebody else's is left alone
}
