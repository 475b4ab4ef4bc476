package shared

import (
	"context"
	"time"
)

const (
	adoptEvery = time.Minute
	adoptFor   = 24 * time.Hour
)

// adopt takes over what proxies of the layout before this one know, if there is anything: once a minute for a day, while an
// upgrade goes from machine to machine. They do not learn from us: who has passed here only is greylisted once more there. It
// begins when first is closed.
func (s *Store) adopt(ctx context.Context, first <-chan struct{}) {
	select {
	case <-ctx.Done():
		return
	case <-first:
	}
	var since time.Time
	pause := time.Second
	for end := time.Now().Add(adoptFor); time.Now().Before(end); {
		begun := s.clock.Now()
		if e := s.usable(); e != nil {
			n, err := e.Adopt(ctx, since)
			if err == nil && n == 0 && since.IsZero() {
				return
			}
			if err == nil {
				since = begun.Add(-time.Second)
			} else if ctx.Err() == nil {
				s.log.Warn("shared store: what proxies of an older release have learned cannot be read; it is tried again", "error", err)
			}
			if n > 0 {
				s.log.Info("shared store: took over what proxies of an older release have learned", "marks", n)
			}
			pause = adoptEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
