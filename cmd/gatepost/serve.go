package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"os/user"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/proxy/config"
	"gatepost/proxy/confine"
	"gatepost/proxy/notify"
	"gatepost/proxy/sockets"
	"gatepost/proxy/store"
	"gatepost/proxy/telemetry"
)

// shutdownLimit is how long sessions may go on after SIGTERM.
const shutdownLimit = 30 * time.Second

// noRestart is the exit status of what no restart cures, EX_CONFIG of sysexits.h; the unit names it.
const noRestart = 78

// settled makes noRestart of a start's error that stays the same until a person does something: a mistake in the
// configuration, files or a port that this user may not have, a user who does not exist, a store of a later release. A port
// that is taken or a file that is missing may be there at the next attempt.
func settled(err error) error {
	var mistakes config.Problems
	var noUser user.UnknownUserError
	var noGroup user.UnknownGroupError
	if errors.As(err, &mistakes) || errors.As(err, &noUser) || errors.As(err, &noGroup) ||
		errors.Is(err, fs.ErrPermission) || errors.Is(err, store.ErrNewer) {
		tell(err)
		return exitStatus(noRestart)
	}
	return err
}

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy; SIGHUP reloads the configuration, SIGUSR2 upgrades, SIGTERM ends it when the sessions are done",
		Args:  cobra.NoArgs,
	}
	file := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), *file) }
	return cmd
}

// ownBinary is the file that this process was started from: what is installed there when it is asked for may be another
// release.
var ownBinary, _ = os.Executable()

// serve runs the proxy, or takes over from one that runs.
func serve(ctx context.Context, file string) error {
	// Before anything else: a signal would end a process that does not expect it.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2)
	defer signal.Stop(signals)

	if err := confine.NoDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "gatepost: core dumps cannot be forbidden:", err)
	}
	given, link, err := sockets.Given()
	if err != nil {
		return err
	}
	manager, err := notify.FromEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gatepost:", err)
	}
	defer manager.Close()
	c, problems := config.Load(file, all.Specs())
	if c == nil {
		err := allProblems(file, problems)
		meet(link, slog.Default()).failed(err)
		return settled(err)
	}
	lines := telemetry.NewGatherer(os.Stderr)
	defer lines.Close()
	log := telemetry.NewLogger(c.Log, lines)
	log.Info("gatepost starts", "version", version, "config", file)
	warn(log, problems)
	defer beside(ctx, tendHeap)()
	p := meet(link, log)
	s := &service{file: file, config: c, log: log, given: given, predecessor: p, signals: signals, manager: manager}
	err = s.shed(ctx)
	if err == nil {
		err = s.start(ctx)
	}
	if err != nil {
		p.failed(err)
		return settled(err)
	}
	return s.run(ctx)
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
	Bind(context.Context, *sockets.Set) (B, error)
}](ctx context.Context, listen []L, given *sockets.Set) ([]B, error) {
	var bound []B
	for _, l := range listen {
		b, err := l.Bind(ctx, given)
		if err != nil {
			closeAll(bound)
			return nil, bindAdvice(err)
		}
		bound = append(bound, b)
	}
	return bound, nil
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
		return fmt.Errorf("%w; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE; a gatepost that has given it up, and its successor, get new ones only by a restart", err)
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
