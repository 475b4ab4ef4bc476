package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"gatepost/filters"
	"gatepost/proxy"
	"gatepost/proxy/handover"
)

// bucket is of a limit.
type bucket = filters.Bucket

// predecessor is the gatepost that has started this one and finishes its sessions beside it.
type predecessor struct {
	link   *handover.Link
	guests *proxy.Guests // its sessions, as far as they count here
}

// meet makes the most of a link that this process was started with; nil: there is none.
func meet(conn *net.UnixConn, log *slog.Logger) *predecessor {
	if conn == nil {
		return nil
	}
	return &predecessor{link: handover.NewLink(conn, log)}
}

// failed tells why this process does not serve.
func (p *predecessor) failed(err error) {
	if p != nil && err != nil {
		_ = p.link.Notify("failed", err.Error())
		p.link.Close()
	}
}

// succeed takes over from the predecessor: state first, then clients. serve begins to accept, and tells
// when that has ended. On error this process must
// end: the predecessor takes everything back.
func (p *predecessor) succeed(ctx context.Context, h *house, serve func() <-chan error) error {
	h.predecessor = p
	h.attend(p.link)
	p.link.HandleNotice("news", p.hear)
	p.link.Handle("find", func(_ context.Context, body []byte, _ func(any) error) (any, error) {
		var fingerprints []string
		if err := handover.Decode(body, &fingerprints); err != nil {
			return nil, err
		}
		return h.server.FindDelivery(fingerprints), nil
	})
	h.running.Go(func() {
		if err := p.link.Run(context.Background()); err != nil {
			h.log.Error("the link to the gatepost that ran before", "error", err)
		}
	})
	var left legacy
	if err := p.link.Call(ctx, "release", introduction{Format: handoverFormat, Version: version, PID: os.Getpid()}, &left); err != nil {
		return fmt.Errorf("taking over: %w", err)
	}
	if left.Format != handoverFormat {
		return errors.New("taking over: the old gatepost is of a release that hands over in another way: stop it and start this one")
	}
	h.ids.Follow(left.Lane)
	h.runtime.Bypass.Set(left.Bypass)
	if err := h.own(); err != nil {
		return err
	}
	p.guests = h.server.Inherit(left.Heritage)
	if err := h.checkServing(ctx, serve()); err != nil {
		return err
	}
	if err := h.openForOperators(); err != nil {
		return err
	}
	// A predecessor without sessions may be gone before it has answered. Nobody is left then who could take anything back.
	if err := p.link.Call(ctx, "served", nil, nil); err != nil && !errors.Is(err, handover.ErrLinkEnded) {
		return fmt.Errorf("taking over: %w", err)
	}
	h.running.Go(func() {
		<-p.link.Done()
		p.guests.Leave()
		h.log.Info("upgrade: the gatepost that ran before has ended")
	})
	return nil
}

// hear takes note of what happens to the predecessor's sessions.
func (p *predecessor) hear(body []byte) {
	var n proxy.News
	if handover.Decode(body, &n) == nil && p.guests != nil {
		p.guests.Hear(n)
	}
}

// checkPatience bounds the self-check at the start.
const checkPatience = 10 * time.Second

// checkServing returns when every socket is being accepted from, and the proxy answers on a connection of its own.
func (h *house) checkServing(ctx context.Context, served <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	for h.server.Gauges().Listeners < len(h.started.Listen) || h.milter.Listeners() < len(h.started.Milter) ||
		h.policyServer.Listeners() < len(h.started.PolicyServer) {
		select {
		case <-time.After(5 * time.Millisecond):
		case err := <-served:
			return errors.Join(errors.New("self-check: nobody is accepted"), err)
		case <-ctx.Done():
			return errors.New("self-check: not every address is listened on")
		}
	}
	return h.server.Probe(ctx)
}
