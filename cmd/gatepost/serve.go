package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/proxy/config"
	"gatepost/proxy/telemetry"
)

// shutdownLimit is how long sessions may go on after SIGTERM.
const shutdownLimit = 30 * time.Second

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy; SIGHUP reloads the configuration, SIGTERM ends it when the sessions are done",
		Args:  cobra.NoArgs,
	}
	file := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), *file) }
	return cmd
}

func serve(ctx context.Context, file string) error {
	// Before anything else: SIGHUP would end a process that does not expect it.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	c, problems := config.Load(file, all.Specs())
	if c == nil {
		fmt.Fprintln(os.Stderr, allProblems(file, problems).Error())
		return exitStatus(1)
	}
	lines := telemetry.NewGatherer(os.Stderr)
	defer lines.Close()
	log := telemetry.NewLogger(c.Log, lines)
	log.Info("gatepost starts", "version", version, "config", file)
	warn(log, problems)
	defer beside(ctx, tendHeap)()
	h, err := build(file, c, log, filters.SystemClock{}, newRecorder(log))
	if err != nil {
		return err
	}
	sockets, err := openAll(ctx, c)
	if err != nil {
		return errors.Join(err, h.close())
	}
	h.awaitBackend(ctx)
	log.Info("gatepost serves", "version", version, "config", file, "listen", addresses(sockets.smtp), "milter", addresses(sockets.milter), "policy_server", addresses(sockets.policyServer), "backend", c.Backend.Address)

	served := make(chan error, 1)
	go func() { served <- h.serve(ctx, sockets) }()
	for {
		select {
		case err := <-served:
			h.close()
			return err
		case s := <-signals:
			if s == syscall.SIGHUP {
				h.reloadAndLog()
				continue
			}
			log.Info("ending: no new sessions; those that are open may finish", "signal", s.String(), "limit", shutdownLimit)
			ctx, cancel := context.WithTimeout(ctx, shutdownLimit)
			defer cancel()
			err := h.shutdown(ctx)
			<-served
			log.Info("ended")
			return err
		}
	}
}

// beside runs f on a goroutine of its own until the function that it returns is called, which waits for it.
func beside(ctx context.Context, f func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

func (h *house) reloadAndLog() {
	err := h.reload()
	if err == nil {
		h.log.Info("the new configuration is in force", "file", h.file)
		return
	}
	h.reloads.Refused()
	var problems config.Problems
	if !errors.As(err, &problems) {
		h.log.Error("the new configuration is refused; the old one stays in force", "file", h.file, "error", err)
		return
	}
	for _, p := range problems {
		if !p.Warning {
			h.log.Error("configuration: "+p.Message, "at", p.Pos.String())
		}
	}
	h.log.Error("the new configuration is refused; the old one stays in force", "file", h.file)
}

// bind opens all sockets of a front end or none.
func bind[B net.Listener, L interface {
	Bind(context.Context) (B, error)
}](ctx context.Context, listen []L) ([]B, error) {
	var sockets []B
	for _, l := range listen {
		b, err := l.Bind(ctx)
		if err != nil {
			closeAll(sockets)
			return nil, bindAdvice(err)
		}
		sockets = append(sockets, b)
	}
	return sockets, nil
}

func closeAll[B net.Listener](sockets []B) {
	for _, b := range sockets {
		b.Close()
	}
}

// bindAdvice adds what to do about the two reasons why sockets cannot be had.
func bindAdvice(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; another program listens there: the mail server itself, or another gatepost? `ss -ltnp` tells", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE", err)
	}
	return err
}

func addresses[B net.Listener](sockets []B) []string {
	list := make([]string, len(sockets))
	for i, s := range sockets {
		list[i] = s.Addr().String()
	}
	return list
}
