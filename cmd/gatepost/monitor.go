package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"

	"gatepost/filters/milter"
	"gatepost/policy"
	"gatepost/proxy/admin"
	"gatepost/proxy/config"
	"gatepost/proxy/metrics"
)

// monitor makes what counts, before anything that is counted.
func (h *house) monitor(recorder policy.Recorder) (err error) {
	if h.counts, err = metrics.NewRecorder(h.specs); err != nil {
		return err
	}
	h.lately = metrics.NewLately(h.counts, h.clock.Now())
	h.traffic = admin.NewTraffic()
	h.runtime.Recorder = recorders{h.counts, h.traffic, recorder}
	return nil
}

// sources is where the metrics come from.
func (h *house) sources() metrics.Sources {
	sources := metrics.Sources{Version: version, Front: h.server, Spill: h.spill, Store: h.store, Resolver: h.dns,
		Quarantine: h.quarantine, Bypass: h.runtime.Bypass, Recorder: h.counts, Reloads: &h.reloads, Backends: h.backendsInForce, Asked: h.milters, Memories: h.memories,
		Milter: h.milter.Metrics(), PolicyServer: h.policyServer.Metrics()}
	if h.shared != nil {
		sources.Shared = h.shared.Stats
	}
	if h.journal != nil {
		sources.Journal = h.journal.Metrics()
	}
	return sources
}

// milters are those that are asked, by name.
func (h *house) milters() (states []milter.State) {
	force := h.inForce()
	for _, name := range slices.Sorted(maps.Keys(force.config.Filters)) {
		if f, ok := force.engine.Filter(name).(*milter.Filter); ok {
			states = append(states, f.State())
		}
	}
	return states
}

func (h *house) backendsInForce() []metrics.Backends {
	b := h.current.Load()
	if b == nil { // MTAs call, and nothing is relayed
		return nil
	}
	return []metrics.Backends{{Use: "mail", Group: b.group}, {Use: "submission", Group: b.submission}}
}

// openAdmin starts the server for operators, if there is to be one, wherever its address may be now.
func (h *house) openAdmin(c *config.Config) error {
	if !c.Admin.Enabled() {
		return nil
	}
	server, err := h.newAdmin(c, nil)
	if err != nil {
		return err
	}
	h.runAdmin(server)
	return nil
}

// newAdmin makes such a server. bound is its socket, if it has one already.
func (h *house) newAdmin(c *config.Config, bound net.Listener) (*admin.Server, error) {
	return admin.New(admin.Options{Config: c.Admin, Hostname: c.Hostname, Version: version, Log: h.log, Clock: h.clock,
		Metrics: metrics.NewRegistry(h.sources()), Ready: h.notReady, Hints: h.hints,
		House: operator{h}, Traffic: h.traffic, Sockets: h.sockets, Bound: bound})
}

func (h *house) runAdmin(server *admin.Server) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	h.admin, h.stopAdmin = server, func() { stop(); <-ended }
	h.running.Go(func() { defer close(ended); server.Run(ctx) })
}

// notReady is why no mail can be taken now; empty: it can.
func (h *house) notReady() (reasons []string) {
	switch g := h.server.Gauges(); {
	case g.Closing:
		reasons = append(reasons, "gatepost is ending")
	case g.Listeners+h.milter.Listeners()+h.policyServer.Listeners() == 0:
		reasons = append(reasons, "nobody listens for clients yet")
	}
	for _, b := range h.backendsInForce() {
		if b.Group == nil {
			continue
		}
		if err := b.Group.Ready(); err != nil {
			reasons = append(reasons, fmt.Sprintf("no backend can be used for %s: %v", b.Use, err))
			continue
		}
		up, first := false, ""
		for _, st := range b.Group.Stats() {
			up = up || st.Up && st.Usable
			first = st.Address
		}
		if !up {
			reasons = append(reasons, fmt.Sprintf("no backend for %s is up (%s and all others have failed lately)", b.Use, first))
		}
	}
	if st := h.store.Stats(); st.Closed {
		reasons = append(reasons, "the store is closed")
	}
	return reasons
}

// hints are what operators should know although mail is taken.
func (h *house) hints() (list []string) {
	st := h.store.Stats()
	if st.Failing != nil {
		list = append(list, fmt.Sprintf("the store goes on from memory, since the disk does not take marks: %v", st.Failing))
	}
	if st.SetAside > 0 {
		list = append(list, "the store could not be read, and began anew: gatepost doctor tells where the old one is, gatepost state import brings back a backup")
	}
	if h.quarantine != nil {
		switch st := h.quarantine.Stats(); {
		case st.Crowded:
			list = append(list, fmt.Sprintf("the quarantine has %d of %d bytes; when it is full messages are answered 452, and no copies are kept: release or delete some, or raise quarantine.size", st.Bytes, st.Limit))
		case st.Expiring > 0:
			list = append(list, fmt.Sprintf("messages in quarantine that will be removed soon: %d; release what you want to keep", st.Expiring))
		}
	}
	if h.shared != nil {
		if st := h.shared.Stats(); !st.Since.IsZero() {
			list = append(list, st.State())
		}
	}
	return list
}
