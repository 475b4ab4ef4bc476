package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/proxy/config"
	"gatepost/proxy/store"
)

func stateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "state", Short: "Back up what the store knows, and bring it back"}
	config := cmd.PersistentFlags().StringP("config", "c", "/etc/gatepost/gatepost.yaml", "configuration `file`")
	of := cmd.PersistentFlags().String("of", "", "`store` to use: embedded or shared; by default shared where the configuration names one (store.redis)")
	cmd.AddCommand(stateExportCommand(config, of), stateImportCommand(config, of))
	return cmd
}

func stateExportCommand(config, of *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export --file FILE",
		Short: "Write all marks and reputations into a file, for `gatepost state import`",
		Long: `Write all marks (greylist, known senders, exceptions, unconfirmed deliveries and whatever else filters remember) and all
reputations into a file of JSON lines. A proxy that runs is asked by its control socket and goes on; without one the
store is opened for the moment.

The file takes its name when it is complete. What changes meanwhile may be missing or come as it was. Counters of rate
limits are not in it: they live for minutes, in memory.`,
		Args: cobra.NoArgs,
	}
	file := cmd.Flags().String("file", "", "`file` to write; - for standard output")
	_ = cmd.MarkFlagRequired("file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		section, end, err := stateStore(*config, *of)
		if err != nil {
			return err
		}
		if *file == "-" {
			return exportState(cmd.Context(), section, end, cmd.OutOrStdout(), cmd.ErrOrStderr())
		}
		return writeWhole(*file, func(w io.Writer) error {
			return exportState(cmd.Context(), section, end, w, cmd.ErrOrStderr())
		})
	}
	return cmd
}

func stateImportCommand(config, of *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import --file FILE",
		Short: "Merge what `gatepost state export` has written into what the store knows",
		Long: `Merge what gatepost state export has written into what the store knows: of a running proxy, or of none. Of what both
know the earliest first attempt, the latest use, pass and expiry, and the more of the counts of a reputation hold: nothing
that is known becomes older or less, and what has expired is not brought back. So an import may be given again, and one
that was interrupted is just started again.

A line that is not understood ends the import with its number; what came before it was taken.`,
		Args: cobra.NoArgs,
	}
	file := cmd.Flags().String("file", "", "`file` written by gatepost state export; - for standard input")
	_ = cmd.MarkFlagRequired("file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		section, end, err := stateStore(*config, *of)
		if err != nil {
			return err
		}
		from := cmd.InOrStdin()
		if *file != "-" {
			f, err := os.Open(*file)
			if err != nil {
				return err
			}
			defer f.Close()
			from = f
		}
		if err := importState(cmd.Context(), section, end, from, cmd.ErrOrStderr()); err != nil {
			return fmt.Errorf("%s: %w", *file, err)
		}
		return nil
	}
	return cmd
}

// stateStore is the store that is meant.
func stateStore(file, of string) (c store.Config, end string, err error) {
	c, problems := config.Store(file, all.Specs())
	switch {
	case problems.Failed():
		return c, "", problems
	case of == "" && c.Redis.Enabled():
		of = "shared"
	case of == "":
		of = "embedded"
	case of != "embedded" && of != "shared":
		return c, "", errors.New("--of is embedded or shared")
	}
	return c, of, nil
}

func exportState(ctx context.Context, c store.Config, end string, to, tell io.Writer) (err error) {
	source, err := openEnd(ctx, c, end)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.close()) }()
	about, err := source.size(ctx)
	if err != nil {
		return err
	}
	file, err := newStateWriter(to, time.Now(), about)
	if err != nil {
		return err
	}
	if err := transfer(ctx, source, file, tell); err != nil {
		return fmt.Errorf("the export broke off: %w", err)
	}
	return file.finish()
}

func importState(ctx context.Context, c store.Config, end string, from io.Reader, tell io.Writer) (err error) {
	file, err := newStateReader(from)
	if err != nil {
		return err
	}
	target, err := openEnd(ctx, c, end)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.close()) }()
	return transfer(ctx, file, target, tell)
}

// writeWhole writes a file that is there as a whole or not at all. Who writes to whom is nobody else's business.
func writeWhole(path string, write func(w io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".part-")
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
