package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
)

// switchable is a handler whose level and format can change while it is used. Those that are derived from it change with
// it.
type switchable struct {
	inForce    *atomic.Pointer[Config]
	text, json slog.Handler // without a level of their own
}

// everything is below every level that can be configured.
const everything = slog.Level(-1 << 10)

func newSwitchable(c Config, w io.Writer) *switchable {
	options := &slog.HandlerOptions{Level: everything}
	whole := &locked{w: w} // both handlers may write at the moment of a change
	s := &switchable{inForce: new(atomic.Pointer[Config]), text: newTextHandler(whole, options), json: slog.NewJSONHandler(escaper{whole}, options)}
	s.inForce.Store(&c)
	return s
}

// Reload puts another configuration in force for a logger that [NewLogger] made, and all that are derived from it. Others
// stay as they are.
func Reload(log *slog.Logger, c Config) {
	if s, ok := log.Handler().(*switchable); ok {
		s.inForce.Store(&c)
	}
}

// Enabled implements [slog.Handler].
func (s *switchable) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.Level(s.inForce.Load().Level)
}

// Handle implements [slog.Handler].
func (s *switchable) Handle(ctx context.Context, r slog.Record) error {
	if s.inForce.Load().Format == "json" {
		return s.json.Handle(ctx, r)
	}
	return s.text.Handle(ctx, r)
}

// plainText returns the handler that writes the lines of h as text, if that is in force and all of a line is what a record
// has.
func plainText(h slog.Handler) (textHandler, bool) {
	s, ok := h.(*switchable)
	if !ok || s.inForce.Load().Format != "text" {
		return textHandler{}, false
	}
	text, ok := s.text.(textHandler)
	return text, ok
}

// WithAttrs implements [slog.Handler].
func (s *switchable) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &switchable{s.inForce, s.text.WithAttrs(attrs), s.json.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (s *switchable) WithGroup(name string) slog.Handler {
	return &switchable{s.inForce, s.text.WithGroup(name), s.json.WithGroup(name)}
}
