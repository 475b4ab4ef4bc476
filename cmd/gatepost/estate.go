package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"gatepost/filters"
	"gatepost/filters/ratelimit"
	"gatepost/proxy/config"
	"gatepost/proxy/handover"
	"gatepost/proxy/quarantine"
	"gatepost/proxy/store"
	"gatepost/proxy/store/shared"
)

// estate is what one process alone may own. What sessions use of it they ask for through a seat, so that another process
// can own it while they go on; the journal has seats of its own.
type estate struct {
	store          *store.Store  // nil: another process owns it, as is what follows
	shared         *shared.Store // nil: this proxy is a site of its own, too
	quarantine     *quarantine.Quarantine
	stopQuarantine func() // its own work, and wait for its end

	site    handover.Memory // shared with other proxies, or this proxy's own
	local   handover.Memory // this proxy's own
	counter handover.Counter
	keeper  handover.Quarantine
}

// vacatePatience bounds the wait for decisions that are being made when somebody else is to own the state.
const vacatePatience = 15 * time.Second

// memory is the site's.
func (h *house) memory(c *config.Config) filters.Store {
	if c.Store.Redis.Enabled() {
		return handover.SharedMemory{Memory: &h.site, Counter: &h.counter}
	}
	return &h.site
}

// own opens the state: it is this process's from now on. On error it is not.
func (h *house) own() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, h.closeQuarantine(), h.closeStore())
		}
	}()
	c := h.inForce().config
	if h.store, err = store.Open(c.Store, h.clock, h.log); err != nil {
		return err
	}
	if c.Store.Redis.Enabled() {
		h.shared = shared.Open(c.Store.Redis, h.store, h.clock, h.log)
	}
	if h.journal != nil {
		if err = h.journal.Own(); err != nil {
			return err
		}
	}
	if err = h.openQuarantine(); err != nil {
		if h.journal != nil {
			err = errors.Join(err, h.journal.Release())
		}
		return err
	}
	h.sit()
	return nil
}

// sit lets sessions ask what this process owns.
func (h *house) sit() {
	h.local.Settle(h.store)
	if h.shared != nil {
		h.site.Settle(h.shared)
		h.counter.Settle(h.shared)
	} else {
		h.site.Settle(h.store)
		h.countHere()
	}
	h.keeper.Take(h.quarantine)
}

// limiter counts where no store does; nil: there are no limits.
func (h *house) limiter() *ratelimit.Filter {
	filter, _ := h.inForce().engine.Filter("ratelimit").(*ratelimit.Filter)
	return filter
}

// countHere lets this process count for limits, beginning with what was taken while it did not.
func (h *house) countHere() {
	if filter := h.limiter(); filter != nil {
		filter.CountElsewhere(nil)
		h.counter.Settle(filter)
	}
}

func (h *house) openQuarantine() (err error) {
	c := h.inForce().config.Quarantine
	h.quarantine, err = quarantine.Open(c, quarantine.Options{Clock: h.clock, Log: h.log, Backend: h.borrowBackends})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	ended, running := make(chan struct{}), h.quarantine
	h.stopQuarantine = func() { stop(); <-ended }
	h.running.Go(func() { defer close(ended); running.Run(ctx) })
	return nil
}

// disown lets go of the state: who asks waits from now on. On error it is this process's still.
func (h *house) disown() error {
	ctx, cancel := context.WithTimeout(context.Background(), vacatePatience)
	defer cancel()
	if filter := h.limiter(); filter != nil {
		filter.CountElsewhere(&h.counter)
	}
	if err := errors.Join(h.counter.Vacate(ctx), h.site.Vacate(ctx), h.local.Vacate(ctx), h.keeper.Vacate(ctx)); err != nil {
		h.sit()
		return err
	}
	errs := []error{h.closeQuarantine()}
	if h.journal != nil {
		errs = append(errs, h.journal.Release())
	}
	return errors.Join(append(errs, h.closeStore())...)
}

// follow asks another process for what it owns now.
func (h *house) follow(l *handover.Link) {
	h.local.Settle(handover.NewRemote(l, "local"))
	h.site.Settle(handover.NewRemote(l, "site"))
	h.counter.Settle(handover.NewRemote(l, "limits"))
	h.keeper.Take(handover.RemoteKeeper{Link: l, Folder: spillFolder(h.started.Store)})
	if h.journal != nil {
		h.journal.Forward(func(b handover.Block) error { return handover.Append(l, b) })
	}
}

// attend lets a process that has owned the state ask for it.
func (h *house) attend(l *handover.Link) {
	handover.ServeStore(l, "local", &h.local)
	handover.ServeStore(l, "site", &h.site)
	handover.ServeMeter(l, "limits", func() filters.Meter {
		if h.started.Store.Redis.Enabled() {
			return &h.counter
		}
		if filter := h.limiter(); filter != nil {
			return filter
		}
		return nil
	})
	handover.ServeKeeper(l, &h.keeper)
	if h.journal != nil {
		handover.ServeJournal(l, h.journal)
	}
}

func (h *house) closeQuarantine() error {
	if h.quarantine == nil {
		return nil
	}
	closing := h.quarantine
	h.quarantine = nil
	h.stopQuarantine()
	return closing.Close()
}

func (h *house) closeStore() error {
	if h.shared != nil {
		h.shared.Close()
		h.shared = nil
	}
	if h.store == nil {
		return nil
	}
	closing := h.store
	h.store = nil
	return closing.Close()
}

// clearHandover removes what a process that was killed had on its way to its successor.
func (h *house) clearHandover() {
	left, _ := filepath.Glob(filepath.Join(spillFolder(h.started.Store), handover.FilePattern))
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			h.log.Warn("what another gatepost has left cannot be removed", "error", err)
		}
	}
}
