package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters/greylist"
	"gatepost/proxy/control"
	"gatepost/proxy/postgrey"
)

// maxLearned bounds how many passes one command reads into memory.
const maxLearned = 5_000_000

func greylistExportCommand(config *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export --file FILE",
		Short: "Write all senders that pass into a file, for `gatepost greylist import`",
		Args:  cobra.NoArgs,
	}
	file := cmd.Flags().String("file", "", "`file` to write, a line of JSON a sender; - for standard output")
	_ = cmd.MarkFlagRequired("file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return greylistExport(cmd, *config, *file) }
	return cmd
}

func greylistImportCommand(config *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import --postgrey FOLDER | --file FILE",
		Short: "Let senders pass that have passed elsewhere: with postgrey, or with another gatepost",
		Long: `Let senders pass that have passed elsewhere: with postgrey, or with another gatepost. What is known already stays as it
is, so the command may be given again. Senders that still wait are not taken along: they wait once more.

Of postgrey, end it first, then give the folder of its databases (--dbdir; Debian: /var/lib/postgrey). They are read
with db5.3_dump or db_dump (Debian: apt install db5.3-util). Where that cannot be on this machine, make dumps there:

  db5.3_dump -h /var/lib/postgrey postgrey.db > triplets.dump
  db5.3_dump -h /var/lib/postgrey postgrey_clients.db > clients.dump

and give each as --file.`,
		Args: cobra.NoArgs,
	}
	folder := cmd.Flags().String("postgrey", "", "`folder` of postgrey's databases")
	file := cmd.Flags().String("file", "", "`file` written by gatepost greylist export or db_dump; - for standard input")
	delay := cmd.Flags().Duration("delay", postgrey.DefaultDelay, "postgrey's own delay (--delay): who came back earlier has not passed")
	cmd.MarkFlagsOneRequired("postgrey", "file")
	cmd.MarkFlagsMutuallyExclusive("postgrey", "file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		list := passes{delay: *delay}
		read := func() error { return list.readFile(cmd.InOrStdin(), *file) }
		if *folder != "" {
			read = func() error { return list.readPostgrey(cmd, *folder) }
		}
		if err := read(); err != nil {
			return err
		}
		return greylistLearn(cmd, *config, &list)
	}
	return cmd
}

func greylistExport(cmd *cobra.Command, config, file string) (err error) {
	socket, err := socketOf(cmd, config)
	if err != nil {
		return err
	}
	var to io.Writer = cmd.OutOrStdout()
	if file != "-" {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // who writes to whom is nobody else's business
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		to = f
	}
	buffered := bufio.NewWriter(to)
	encoder, n := json.NewEncoder(buffered), 0
	var failed error
	err = control.Stream(cmd.Context(), socket, "greylist.known", struct{}{}, func(l greylist.Learned) bool {
		n++
		failed = encoder.Encode(l)
		return failed == nil
	})
	if err = errors.Join(err, failed, buffered.Flush()); err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "Senders written: %d\n", n)
	}
	return err
}

// atOnce is how many passes are sent with one call.
const atOnce = 250

func greylistLearn(cmd *cobra.Command, config string, list *passes) error {
	socket, err := socketOf(cmd, config)
	if err != nil {
		return err
	}
	var total learned
	shown := newBar(cmd.ErrOrStderr(), "importing", int64(len(list.passes)))
	for start := 0; start < len(list.passes) && err == nil; start += atOnce {
		var done learned
		part := list.passes[start:min(start+atOnce, len(list.passes))]
		if err = control.Call(cmd.Context(), socket, "greylist.learn", learnRequest{Passes: part}, &done); err == nil {
			total.Added += done.Added
			total.Invalid += done.Invalid
			shown.set(int64(start + len(part)))
		}
	}
	shown.end()
	fmt.Fprintf(cmd.OutOrStdout(), "Passes read: %d; new or longer: %d; known or expired: %d; still waiting: %d; not understood: %d\n",
		len(list.passes), total.Added, len(list.passes)-total.Added-total.Invalid, list.waiting, list.unknown+total.Invalid)
	return err
}

// passes are what was read.
type passes struct {
	delay            time.Duration
	passes           []greylist.Learned
	waiting, unknown int
}

var errTooMany = fmt.Errorf("there are more than %d passes: import them in parts", maxLearned)

func (p *passes) add(l greylist.Learned) error {
	if len(p.passes) >= maxLearned {
		return errTooMany
	}
	p.passes = append(p.passes, l)
	return nil
}

func (p *passes) readFile(stdin io.Reader, name string) error {
	from := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	r := bufio.NewReader(from)
	read := p.readExport
	if start, _ := r.Peek(len("VERSION=")); string(start) == "VERSION=" {
		read = p.readDump
	}
	if err := read(r); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// readExport reads what greylistExport has written.
func (p *passes) readExport(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		var l greylist.Learned
		decoder := json.NewDecoder(strings.NewReader(lines.Text()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&l); err != nil {
			return fmt.Errorf("line %d is neither of gatepost greylist export nor of db_dump: %w", number, err)
		}
		if err := p.add(l); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (p *passes) readDump(r io.Reader) error {
	return postgrey.ReadDump(r, func(key, value string) error {
		l, ok, known := postgrey.Pass(key, value, p.delay)
		switch {
		case ok:
			return p.add(l)
		case known:
			p.waiting++
		default:
			p.unknown++
		}
		return nil
	})
}

// readPostgrey reads both databases of a folder. That of clients need not be there: postgrey may do without.
func (p *passes) readPostgrey(cmd *cobra.Command, folder string) error {
	program, err := dumpProgram()
	if err != nil {
		return err
	}
	for _, name := range []string{"postgrey.db", "postgrey_clients.db"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			if name == "postgrey.db" {
				return err
			}
			continue
		}
		if err := p.readDatabase(cmd, program, folder, name); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(folder, name), err)
		}
	}
	return nil
}

func dumpProgram() (string, error) {
	for _, name := range []string{"db5.3_dump", "db_dump"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("postgrey's databases are read with db5.3_dump or db_dump, and neither is here (Debian: apt install db5.3-util); a dump made elsewhere is imported with --file")
}

func (p *passes) readDatabase(cmd *cobra.Command, program, folder, name string) error {
	dump := exec.CommandContext(cmd.Context(), program, "-h", folder, name)
	var complaints strings.Builder
	dump.Stderr = &complaints
	output, err := dump.StdoutPipe()
	if err == nil {
		err = dump.Start()
	}
	if err != nil {
		return err
	}
	readErr := p.readDump(output)
	_, _ = io.Copy(io.Discard, output) // so that it can end
	if err := dump.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %.500s", filepath.Base(program), err, strings.TrimSpace(printable(complaints.String())))
	}
	return readErr
}
