package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/proxy/config"
	"gatepost/proxy/control"
)

func bypassCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bypass --for 1h | --off",
		Short: "Make a running proxy watch only: rules are recorded and not enforced (the panic button)",
		Args:  cobra.NoArgs,
	}
	file := configFlag(cmd)
	span := cmd.Flags().String("for", "", "how `long`, such as 1h")
	off := cmd.Flags().Bool("off", false, "enforce the rules again")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var request bypassRequest
		switch {
		case *off == (*span != ""):
			return errors.New("say how long with --for, or --off")
		case *span != "":
			if err := request.For.UnmarshalText([]byte(*span)); err != nil {
				return fmt.Errorf("--for: %w", err)
			}
			if request.For <= 0 {
				return errors.New("--for: must be longer than nothing")
			}
		}
		socket, err := socketOf(cmd, *file)
		if err != nil {
			return err
		}
		var until time.Time
		if err := control.Call(cmd.Context(), socket, "bypass", request, &until); err != nil {
			return err
		}
		if until.IsZero() {
			fmt.Fprintln(cmd.OutOrStdout(), "The rules are enforced again.")
			return nil
		}
		fmt.Fprintf(cmd.OutOrStdout(), "Rules are only watched until %s. `gatepost bypass --off` ends that.\n", until.Local().Format("2006-01-02 15:04:05"))
		return nil
	}
	return cmd
}

// socketOf finds the control socket of the proxy that runs with a configuration. A file that was broken since the proxy
// was started must not lock its operator out.
func socketOf(cmd *cobra.Command, file string) (string, error) {
	section, problems := config.Store(file, all.Specs())
	if section.Path == "" {
		return "", fmt.Errorf("%w; -c names the configuration that gatepost runs with", problems)
	}
	if problems.Failed() {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s cannot be used as it is now (`gatepost check` says why); looking for a proxy with its state in %s\n", file, section.Path)
	}
	return controlSocket(section), nil
}
