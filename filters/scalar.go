package filters

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span in the configuration: "300ms", "10s", "5m", "24h", "35d", "1h30m".
type Duration time.Duration

// UnmarshalText parses a non-negative span. Days are 24 hours.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	var total time.Duration
	if days, rest, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > math.MaxInt64/uint64(24*time.Hour) {
			return fmt.Errorf("%q is not a duration such as 10s, 5m, 24h or 35d", s)
		}
		total, s = time.Duration(n)*24*time.Hour, rest
	}
	if s != "" {
		rest, err := time.ParseDuration(s)
		if err != nil || rest < 0 || total > math.MaxInt64-rest {
			return fmt.Errorf("%q is not a duration such as 10s, 5m, 24h or 35d", text)
		}
		total += rest
	} else if len(text) == 0 {
		return errors.New("a duration such as 10s, 5m, 24h or 35d is missing")
	}
	*d = Duration(total)
	return nil
}

// String writes the span with the fewest units that are exact.
func (d Duration) String() string {
	span := time.Duration(d)
	if span == 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range [...]struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}, {"us", time.Microsecond}, {"ns", 1}} {
		if n := span / u.unit; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			span -= n * u.unit
		}
	}
	return b.String()
}

// MarshalText writes the span as UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes in the configuration: "4096", "64KiB", "50MiB", "1GiB".
type Size int64

var sizeUnits = [...]struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// UnmarshalText parses a non-negative size.
func (z *Size) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*z = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size such as 4096, 64KiB or 50MiB", text)
}

// String writes the size in the largest unit that is exact.
func (z Size) String() string {
	for _, u := range sizeUnits {
		if u.bytes > 1 && z != 0 && int64(z)%u.bytes == 0 {
			return strconv.FormatInt(int64(z)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(z), 10)
}

// MarshalText writes the size as UnmarshalText reads it.
func (z Size) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// Secret is a value that cannot be printed by accident: every formatter shows it as asterisks. Reveal hands it out. Two
// secrets are compared by what Reveal returns, not by ==.
type Secret struct {
	// A pointer, because fmt does not ask a Secret in an unexported field of another struct for its Format, and prints
	// what it finds: an address then. Nil is the empty secret.
	value *string
}

// NewSecret hides value.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// Reveal returns the hidden value, for the one place that needs it on the wire.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

const hidden = "********"

// String hides the value.
func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return hidden
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides the value from every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue hides the value from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the value, also from JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes the value from the configuration.
func (s *Secret) UnmarshalText(text []byte) error { *s = NewSecret(string(text)); return nil }

// KeyError says which key of a filter's configuration is wrong and why. Key is a path such as "zones[2].codes".
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

func (e *KeyError) Unwrap() error { return e.Err }

// KeyErrors is every [KeyError] of one configuration, so that an operator sees all of them at once.
type KeyErrors []*KeyError

func (e KeyErrors) Error() string {
	texts := make([]string, len(e))
	for i, k := range e {
		texts[i] = k.Error()
	}
	return strings.Join(texts, "; ")
}

// Add appends a mistake found at key.
func (e *KeyErrors) Add(key, format string, args ...any) {
	*e = append(*e, &KeyError{Key: key, Err: fmt.Errorf(format, args...)})
}

// OrNil is e as an error, nil if it is empty.
func (e KeyErrors) OrNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}
