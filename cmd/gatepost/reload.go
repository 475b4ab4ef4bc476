package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"

	"gatepost/proxy"
	"gatepost/proxy/admin"
	"gatepost/proxy/called"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
	"gatepost/proxy/milter"
	"gatepost/proxy/policyserver"
	"gatepost/proxy/sockets"
	"gatepost/proxy/telemetry"
)

// revision is another configuration on its way into force. All that can fail is prepared first; then nothing fails.
type revision struct {
	house  *house
	config *config.Config

	opened   openSockets
	services *services
	next     inForce

	undo  []func() // what was prepared
	apply []func() // in order
}

// reload reads the file again. A bad one is refused as a whole: the old one stays in force.
func (h *house) reload() error {
	h.changing.Lock()
	defer h.changing.Unlock()
	if h.succession.done() {
		return errSucceeded
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c, problems := config.Load(h.file, h.specs)
	if c == nil {
		return allProblems(h.file, problems)
	}
	if err := errors.Join(c.Unserved(), h.needsRestart(c), needsUpgrade(h.force.config, c)); err != nil {
		return err
	}
	r := &revision{house: h, config: c}
	for _, step := range []func() error{r.sockets, r.admin, r.journal, r.bounds, r.compile, r.fronts} {
		if err := step(); err != nil {
			for _, undo := range slices.Backward(r.undo) {
				undo()
			}
			return err
		}
	}
	warn(h.log, problems)
	for _, apply := range r.apply {
		apply()
	}
	return nil
}

// prepared notes what a step has made ready. A nil function has nothing to do.
func (r *revision) prepared(apply, undo func()) {
	if apply != nil {
		r.apply = append(r.apply, apply)
	}
	if undo != nil {
		r.undo = append(r.undo, undo)
	}
}

// sockets opens those that are new.
func (r *revision) sockets() error {
	before, c := r.house.force.config, r.config
	var failed [3]error
	r.opened.smtp, failed[0] = bindAdded(r, "listen", c.Listen, before.Listen, func(l proxy.Listen) string { return l.Address })
	r.opened.milter, failed[1] = bindAdded(r, "milter", c.Milter, before.Milter, calledAddress)
	r.opened.policyServer, failed[2] = bindAdded(r, "policy_server", c.PolicyServer, before.PolicyServer, calledAddress)
	r.prepared(nil, func() {
		closeAll(r.opened.smtp)
		closeAll(r.opened.milter)
		closeAll(r.opened.policyServer)
	})
	return errors.Join(failed[:]...)
}

func calledAddress[L called.Entry](l L) string { return l.Common().Address }

// bindAdded opens the sockets of entries at addresses that are not among those before. An address may be there several
// times (port 0). What cannot be had is named with its place.
func bindAdded[B net.Listener, L interface {
	Bind(context.Context, *sockets.Set) (B, error)
}](r *revision, key string, entries, before []L, address func(L) string) (bound []B, err error) {
	open := map[string]int{}
	for _, l := range before {
		open[address(l)]++
	}
	for i, l := range entries {
		if open[address(l)]--; open[address(l)] >= 0 {
			continue
		}
		b, failed := l.Bind(context.Background(), r.house.sockets)
		if failed != nil {
			err = errors.Join(err, r.cannotBind(fmt.Sprintf("%s[%d].address", key, i), failed))
			continue
		}
		bound = append(bound, b)
	}
	return bound, err
}

// cannotBind names the key, and what can be done.
func (r *revision) cannotBind(key string, err error) error {
	err = fmt.Errorf("%s: %s: %w", r.config.Place(key), key, err)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; %s. Restart it (systemctl restart gatepost), or have systemd bind the port (gatepost.socket)", err, inherits)
	}
	return bindAdvice(err)
}

// journal makes the key of addresses, if there is to be one.
func (r *revision) journal() error {
	if r.house.journal == nil {
		return nil
	}
	apply, err := r.house.journal.Prepare(r.config.Journal)
	r.prepared(apply, nil)
	return err
}

// bounds are those of what is kept, and of the log.
func (r *revision) bounds() error {
	h, c := r.house, r.config
	r.prepared(func() {
		telemetry.Reload(h.log, c.Log)
		if h.store != nil { // else it could not be had again after an upgrade that had failed
			h.store.Reload(c.Store)
			h.quarantine.Reload(c.Quarantine)
		}
	}, nil)
	return nil
}

// compile makes what new sessions work with.
func (r *revision) compile() (err error) {
	h := r.house
	if r.services, r.next, err = h.services(r.config); err != nil {
		return err
	}
	r.prepared(nil, func() { h.discard(r.services, r.next) })
	r.next.backends.await(context.Background())
	return nil
}

// fronts lets new sessions work with it.
func (r *revision) fronts() error {
	h, c, s := r.house, r.config, r.services
	smtp, err := h.server.Prepare(s.smtp, &proxy.Listening{Entries: c.Listen, Added: r.opened.smtp})
	if err != nil {
		return err
	}
	forMilter, err := h.milter.Prepare(s.milter, &milter.Listening{Entries: c.Milter, Added: r.opened.milter})
	if err != nil {
		return err
	}
	forPolicy, err := h.policyServer.Prepare(s.policyServer, &policyserver.Listening{Entries: c.PolicyServer, Added: r.opened.policyServer})
	if err != nil {
		return err
	}
	r.prepared(func() {
		smtp()
		forMilter()
		forPolicy()
		h.leave(r.next)
		h.enforce(r.next)
		h.rulesInForce(journal.Reload)
	}, nil)
	return nil
}

// leave gives up what is in force and not in next, when its last session has ended.
func (h *house) leave(next inForce) {
	if previous := h.force.backends; previous != nil && previous != next.backends {
		h.running.Go(func() { previous.users.Wait(); previous.stop() })
	}
	if previous := h.force.lookups; previous != next.lookups {
		h.closeUnused(previous)
	}
}

// admin makes the server for operators ready that there is to be.
func (r *revision) admin() error {
	h, before, now := r.house, &r.house.force.config.Admin, &r.config.Admin
	end := func() {
		if stop := h.stopAdmin; stop != nil {
			h.admin, h.stopAdmin = nil, nil
			h.running.Go(stop) // what it streams may take a while to end
		}
	}
	switch {
	case !now.Enabled():
		r.prepared(end, nil)
		return nil
	case h.admin != nil && before.Address == now.Address:
		apply, err := h.admin.Prepare(*now)
		r.prepared(apply, nil)
		return err
	}
	socket, err := admin.Bind(context.Background(), *now, h.sockets)
	if err != nil {
		return r.cannotBind("admin.address", err)
	}
	server, err := h.newAdmin(r.config, socket)
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	r.prepared(func() { end(); h.runAdmin(server) }, func() { socket.Close() })
	return nil
}
