package filters

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		out  string // as it is written again
	}{
		{"0", 0, "0s"},
		{"0s", 0, "0s"},
		{"300ms", 300 * time.Millisecond, "300ms"},
		{"10s", 10 * time.Second, "10s"},
		{"90s", 90 * time.Second, "1m30s"},
		{"24h", 24 * time.Hour, "1d"},
		{"35d", 35 * 24 * time.Hour, "35d"},
		{"1d12h", 36 * time.Hour, "1d12h"},
		{"1h30m", 90 * time.Minute, "1h30m"},
		{"1.5s", 1500 * time.Millisecond, "1s500ms"},
		{"2562047h", 2562047 * time.Hour, "106751d23h"},
	} {
		var d Duration
		if err := d.UnmarshalText([]byte(c.text)); err != nil || time.Duration(d) != c.want || d.String() != c.out {
			t.Errorf("%q: %v, %v; want %v, %q", c.text, d, err, c.want, c.out)
		}
	}
	for _, bad := range []string{"", "10", "d", "-5m", "1d-5m", "5x", "1.5d", "1d2d", "999999999d", "106751d24h", " 5m", "18446744073709551616d"} {
		d := Duration(7)
		if err := d.UnmarshalText([]byte(bad)); err == nil || d != 7 {
			t.Errorf("%q: %v, %v", bad, d, err)
		}
	}
}

func TestDurationRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "span"))
		text, _ := d.MarshalText()
		var back Duration
		if err := back.UnmarshalText(text); err != nil || back != d {
			t.Fatalf("%d as %q comes back as %d, %v", d, text, back, err)
		}
	})
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		text string
		want Size
		out  string
	}{
		{"0", 0, "0"},
		{"4097", 4097, "4097"},
		{"4096", 4096, "4KiB"},
		{"12B", 12, "12"},
		{"64KiB", 64 << 10, "64KiB"},
		{"50 MiB", 50 << 20, "50MiB"},
		{"2048MiB", 2 << 30, "2GiB"},
		{"9223372036854775807", math.MaxInt64, "9223372036854775807"},
	} {
		var z Size
		if err := z.UnmarshalText([]byte(c.text)); err != nil || z != c.want || z.String() != c.out {
			t.Errorf("%q: %v, %v; want %d, %q", c.text, z, err, c.want, c.out)
		}
	}
	for _, bad := range []string{"", "KiB", "-1", "-1KiB", "10KB", "10k", "1.5MiB", "8589934592GiB", "9223372036854775808", "0x10"} {
		z := Size(7)
		if err := z.UnmarshalText([]byte(bad)); err == nil || z != 7 {
			t.Errorf("%q: %v, %v", bad, z, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		z := Size(rapid.Int64Range(0, math.MaxInt64).Draw(t, "bytes"))
		text, _ := z.MarshalText()
		var back Size
		if err := back.UnmarshalText(text); err != nil || back != z {
			t.Fatalf("%d as %q comes back as %d, %v", int64(z), text, int64(back), err)
		}
	})
}

// A secret does not get out through any formatter, also from inside of other values.
func TestSecretStaysHidden(t *testing.T) {
	const password = "hunter2"
	s := NewSecret(password)
	inside := struct {
		Public  Secret
		private Secret
		pointer *Secret
		list    []Secret
	}{s, s, &s, []Secret{s}}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("x", "secret", s, "pointer", &s, "inside", inside)
	}
	asJSON, err := json.Marshal(map[string]any{"secret": s, "pointer": &s, "inside": inside})
	if err != nil {
		t.Fatal(err)
	}
	outputs := []string{log.String(), string(asJSON), fmt.Errorf("bad key %v: %w", s, errors.New("x")).Error()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T", "%20v"} {
		outputs = append(outputs, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, inside), fmt.Sprintf(verb, []Secret{s}))
	}
	for _, out := range outputs {
		if strings.Contains(out, password) || strings.Contains(out, fmt.Sprintf("%x", password)) {
			t.Errorf("it is shown in %s", out)
		}
	}
	if !strings.Contains(string(asJSON), hidden) || !strings.Contains(log.String(), hidden) || s.String() != hidden {
		t.Errorf("no asterisks: %s %s %s", asJSON, log.String(), s)
	}
}

func TestSecretIsRevealed(t *testing.T) {
	var s Secret
	if s.Reveal() != "" || s.String() != "" {
		t.Errorf("the empty secret is %q, %q", s.Reveal(), s)
	}
	if err := s.UnmarshalText([]byte("hunter2")); err != nil || s.Reveal() != "hunter2" {
		t.Errorf("%q, %v", s.Reveal(), err)
	}
}

func TestKeyErrors(t *testing.T) {
	var e KeyErrors
	if err := e.OrNil(); err != nil {
		t.Errorf("no mistakes: %v", err)
	}
	e.Add("zones[2].codes", "%w: %q", errMistake, "x")
	e.Add("delay", "is missing")
	err := e.OrNil()
	if want := `zones[2].codes: mistake: "x"; delay: is missing`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if !errors.Is(e[0], errMistake) {
		t.Error("the cause is lost")
	}
}

var errMistake = errors.New("mistake")
