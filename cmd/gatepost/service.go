package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"syscall"
	"time"

	"gatepost/filters"
	"gatepost/proxy/config"
	"gatepost/proxy/confine"
	"gatepost/proxy/notify"
	"gatepost/proxy/sockets"
)

// drainLimit is how long sessions may go on after a successor has taken over. Clients are not silent for so long
// (limits.timeout); a message may take longer, and is sent again.
const drainLimit = 15 * time.Minute

// service is `gatepost serve` from its start to its end.
type service struct {
	file        string
	config      *config.Config
	log         *slog.Logger
	given       *sockets.Set
	predecessor *predecessor // nil: none
	signals     <-chan os.Signal
	manager     *notify.Manager
	confined    *confine.Grant // nil: it is not

	house  *house
	served chan error // what accepting came to
}

// start returns when clients are served.
func (s *service) start(ctx context.Context) (err error) {
	c, log := s.config, s.log
	h, err := prepare(s.file, c, log, filters.SystemClock{}, newRecorder(log))
	if err != nil {
		return err
	}
	s.house, h.sockets, h.confined = h, s.given, s.confined
	if s.predecessor == nil {
		if err := h.own(); err != nil {
			return errors.Join(err, h.close())
		}
		h.clearHandover()
	}
	open, err := openAll(ctx, c, s.given)
	if err != nil {
		return errors.Join(err, h.close())
	}
	h.awaitBackend(ctx)
	s.served = make(chan error, 1)
	accept := func() <-chan error {
		go func() { s.served <- h.serve(ctx, open) }()
		return s.served
	}
	if s.predecessor != nil {
		err = s.predecessor.succeed(ctx, h, accept)
	} else if err = h.openForOperators(); err == nil {
		err = h.checkServing(ctx, accept()) // a reload that comes at once finds all listeners
	}
	if err != nil {
		s.predecessor.failed(err) // before the rest is closed: nothing is waited for
		return errors.Join(err, h.close())
	}
	if unused := s.given.CloseRest(); len(unused) > 0 {
		log.Warn("sockets that were given are not in the configuration, and were closed", "addresses", unused)
	}
	log.Info("gatepost serves", "version", version, "config", s.file, "listen", addresses(open.smtp), "milter", addresses(open.milter), "policy_server", addresses(open.policyServer), "backend", c.Backend.Address)
	s.manager.Tell(notify.MainPID(os.Getpid()), notify.Ready, notify.Status(h.status()))
	return nil
}

// run obeys signals until the service ends.
func (s *service) run(ctx context.Context) error {
	h := s.house
	endWatch := beside(ctx, func(ctx context.Context) { h.watch(ctx, s.manager) })
	defer func() { endWatch() }()
	succeeded := h.succession.happened()
	var drained <-chan struct{}
	var limit <-chan time.Time
	for {
		select {
		case err := <-s.served:
			if h.succession.done() { // the successor accepts
				s.served = nil
				continue
			}
			return errors.Join(err, h.close())
		case <-succeeded:
			succeeded = nil
			endWatch()
			drained, limit = h.drained(), time.After(drainLimit)
		case <-drained:
			err := h.close()
			s.log.Info("ended: the last session is over, and the successor serves")
			return err
		case <-limit:
			s.log.Warn("sessions have gone on for too long after the upgrade and are ended", "limit", drainLimit, "sessions", h.server.Metrics().Open.Load())
			return s.end()
		case signal := <-s.signals:
			switch signal {
			case syscall.SIGHUP:
				s.reload()
			case syscall.SIGUSR2:
				h.running.Go(func() { h.handOver("") }) // it logs what comes of it
			default:
				s.log.Info("ending: no new sessions; those that are open may finish", "signal", signal.String(), "limit", shutdownLimit)
				return s.end()
			}
		}
	}
}

func (s *service) reload() {
	if s.house.succession.done() {
		s.log.Warn("nothing is reloaded here: another gatepost has taken over", "error", errSucceeded)
		return
	}
	s.manager.Tell(notify.Reloading())
	s.house.reloadAndLog()
	s.manager.Tell(notify.Ready, notify.Status(s.house.status()))
}

// end lets sessions finish for a while.
func (s *service) end() error {
	if !s.house.succession.done() {
		s.manager.Tell(notify.Stopping, notify.Status("ending: sessions may finish"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownLimit)
	defer cancel()
	err := s.house.shutdown(ctx)
	if s.served != nil {
		<-s.served
	}
	s.log.Info("ended")
	return err
}
