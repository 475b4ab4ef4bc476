package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"gatepost/cmd/gatepost/demo"
	"gatepost/filters/all"
	"gatepost/proxy/config"
	"gatepost/proxy/telemetry"
)

func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch the proxy at work on this machine alone: real sessions against a stand-in mail server",
		Args:  cobra.NoArgs,
	}
	once := cmd.Flags().Bool("once", false, "end after the scenarios; exit status 0 only if each ended as it should")
	listen := cmd.Flags().String("listen", "127.0.0.1:2525", "loopback `address` of the proxy")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return runDemo(ctx, cmd.OutOrStdout(), *listen, *once)
	}
	return cmd
}

func runDemo(ctx context.Context, out io.Writer, listen string, once bool) (err error) {
	if host, _, splitErr := net.SplitHostPort(listen); splitErr != nil || !net.ParseIP(host).IsLoopback() {
		return fmt.Errorf("--listen %s: the demo is for this machine alone; give a loopback address such as 127.0.0.1:2525", listen)
	}
	world, err := demo.NewWorld(listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, world.Close()) }()
	c, problems := config.Load(world.ConfigFile, all.Specs())
	if c == nil {
		return problems
	}
	records := demo.NewRecords()
	h, err := build(world.ConfigFile, c, telemetry.NewLogger(c.Log, os.Stderr), world.Clock, records)
	if err != nil {
		return err
	}
	sockets, err := bind(ctx, c.Listen, nil)
	if err != nil {
		return errors.Join(fmt.Errorf("%w; is another demo running? --listen takes another address", err), h.close())
	}
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(ctx, sockets...) }()
	defer func() {
		err = errors.Join(err, h.close(), <-served)
	}()
	h.awaitBackend(ctx)
	stage := &demo.Stage{World: world, Address: sockets[0].Addr().String(), Paper: demo.NewPaper(out), Records: records}
	failed := stage.Play()
	stage.Sum(failed)
	if once {
		if failed > 0 {
			return exitStatus(1)
		}
		return nil
	}
	stage.Invite()
	<-ctx.Done()
	return nil
}
