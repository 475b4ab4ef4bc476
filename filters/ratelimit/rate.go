package ratelimit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/filters"
)

// Amount is a number of events, or of bytes if it was written with a unit: "60", "50MiB".
type Amount struct {
	N     int64
	Bytes bool // a unit was given
}

// UnmarshalText reads a non-negative amount.
func (a *Amount) UnmarshalText(text []byte) error {
	var size filters.Size
	if err := size.UnmarshalText(text); err != nil {
		return fmt.Errorf("%q is not an amount such as 60 or 50MiB", text)
	}
	*a = Amount{N: int64(size), Bytes: strings.HasSuffix(strings.TrimSpace(string(text)), "B")}
	return nil
}

// String writes the amount as UnmarshalText reads it.
func (a Amount) String() string {
	if a.Bytes && a.N > 0 && a.N%1024 == 0 {
		return filters.Size(a.N).String()
	}
	if a.Bytes {
		return strconv.FormatInt(a.N, 10) + "B"
	}
	return strconv.FormatInt(a.N, 10)
}

// MarshalText writes the amount as UnmarshalText reads it.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Rate is an amount per time: "60/1m", "1000/h", "50MiB/1h".
type Rate struct {
	Amount Amount
	Per    filters.Duration
}

// UnmarshalText reads a rate of at least one event in at most 30 days.
func (r *Rate) UnmarshalText(text []byte) error {
	amount, per, ok := strings.Cut(string(text), "/")
	per = strings.TrimSpace(per)
	if !ok || per == "" {
		return fmt.Errorf("%q is not a rate such as 60/1m, 1000/h or 50MiB/1h", text)
	}
	if per[0] < '0' || per[0] > '9' {
		per = "1" + per
	}
	var parsed Rate
	if err := parsed.Amount.UnmarshalText([]byte(strings.TrimSpace(amount))); err != nil {
		return fmt.Errorf("rate %q: %w", text, err)
	}
	if err := parsed.Per.UnmarshalText([]byte(per)); err != nil {
		return fmt.Errorf("rate %q: %w", text, err)
	}
	if parsed.Amount.N < 1 || parsed.Per < filters.Duration(time.Millisecond) || parsed.Per > filters.Duration(30*24*time.Hour) {
		return fmt.Errorf("rate %q: at least 1, in a time between 1ms and 30d", text)
	}
	*r = parsed
	return nil
}

// String writes the rate as UnmarshalText reads it.
func (r Rate) String() string { return r.Amount.String() + "/" + r.Per.String() }

// MarshalText writes the rate as UnmarshalText reads it.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// perSecond is the rate in events a second.
func (r Rate) perSecond() float64 {
	return float64(r.Amount.N) / time.Duration(r.Per).Seconds()
}
