package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatepost/proxy/notify"
)

const (
	// statusInterval is how often the service manager is told how things are.
	statusInterval = 10 * time.Second
	// stallPatience is how long store and journal may take for what is nothing but a turn of their loop.
	stallPatience = 5 * time.Second
)

// watch tells the service manager how things are, and that the proxy works, until ctx ends: only after it has been tried.
func (h *house) watch(ctx context.Context, manager *notify.Manager) {
	interval := statusInterval
	watchdog := notify.WatchdogInterval()
	if watchdog > 0 {
		interval = min(interval, watchdog/3)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		tell := []string{notify.Status(h.status())}
		if watchdog > 0 {
			if err := h.check(ctx); err == nil {
				tell = append(tell, notify.Alive)
			} else if ctx.Err() == nil {
				h.log.Error("the self-check failed; if it goes on failing the watchdog restarts gatepost", "error", err)
			}
		}
		if ctx.Err() != nil {
			return
		}
		manager.Tell(tell...)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// status is one line about sessions and backends.
func (h *house) status() string {
	text := fmt.Sprintf("%d sessions", h.server.Metrics().Open.Load())
	for _, b := range h.backendsInForce() {
		if b.Group == nil {
			continue
		}
		up, all := 0, 0
		for _, st := range b.Group.Stats() {
			all++
			if st.Up && st.Usable {
				up++
			}
		}
		text += fmt.Sprintf(", %d of %d backends for %s up", up, all, b.Use)
	}
	return text
}

// check tries what every session needs: a connection is admitted, waits, and is answered; store and journal have turns of
// their own. That their disk fails, and they know, is no reason to end: mail goes on from memory.
func (h *house) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stallPatience)
	defer cancel()
	return errors.Join(h.server.Probe(ctx), h.checkState(ctx))
}

// checkState looks whether the goroutines that own store and journal have come round.
func (h *house) checkState(ctx context.Context) error {
	if !h.changing.TryLock() { // a hand-over is under way, or a reload, which bound themselves
		return nil
	}
	store := h.store
	h.changing.Unlock()
	var errs []error
	if store != nil {
		if err := store.Flush(ctx); err != nil && ctx.Err() != nil && store.Stats().Failing == nil {
			errs = append(errs, fmt.Errorf("self-check: %w", err))
		}
	}
	if h.journal != nil {
		if err := h.journal.Turn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("self-check: %w", err))
		}
	}
	return errors.Join(errs...)
}
