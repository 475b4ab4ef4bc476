package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/proxy/backend"
	"gatepost/proxy/config"
	"gatepost/proxy/setup"
)

// initFlags are the answers that need not be asked for.
type initFlags struct {
	output, mta, way                                     string
	hostname, backend, certificate, key, contact, listen string
	domains                                              []string
	yes                                                  bool
}

func initCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a first configuration for the mail server that is here, and print the lines that it needs",
		Long: `Look at the mail server, its domains, certificates, ports and resolver, ask about what was found, write a commented
configuration, and print the commands that move the mail server behind Gatepost, with the way back. Nothing but the
configuration file is written, and no file with settings is ever overwritten: one that has comments alone is kept
beside the new one, as NAME.orig.

Without a terminal, or with --yes, nothing is asked: flags outdo what was found.`,
		Args: cobra.NoArgs,
	}
	var o initFlags
	flags := cmd.Flags()
	flags.StringVarP(&o.output, "output", "o", "/etc/gatepost/gatepost.yaml", "`file` to write; - prints it")
	flags.StringVar(&o.mta, "mta", "", "the mail server: postfix, exim, opensmtpd, sendmail, courier or other")
	flags.StringVar(&o.hostname, "hostname", "", "the name in the MX records")
	flags.StringSliceVar(&o.domains, "domain", nil, "a domain that mail is taken for; may be repeated")
	flags.StringVar(&o.backend, "backend", "", "where the mail server shall listen, host:port")
	flags.StringVar(&o.way, "client-address", "", "how it learns the client's address: xclient, proxy-v1, proxy-v2, transparent or none")
	flags.StringVar(&o.certificate, "certificate", "", "`file` with the certificate chain")
	flags.StringVar(&o.key, "key", "", "`file` with its private key")
	flags.StringVar(&o.contact, "contact", "", "where refused senders find help")
	flags.StringVar(&o.listen, "listen", "", "where clients are served, host:port (default :25)")
	flags.BoolVarP(&o.yes, "yes", "y", false, "ask nothing")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ask := isTerminal(cmd.InOrStdin()) && !o.yes
		return initialise(cmd.Context(), setup.ThisSystem(), o, ask, cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// isTerminal tells whether there is somebody to ask.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	nobody, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, nobody)
}

// initialise asks, writes the file and prints the steps. What is meant for people goes to talk where the file goes to out.
func initialise(ctx context.Context, system setup.System, o initFlags, ask bool, in io.Reader, out, talk io.Writer) error {
	if o.output != "-" {
		if err := mayWrite(o.output); err != nil {
			return err
		}
	}
	if o.mta != "" && !slices.Contains(setup.MTAs, setup.MTA(o.mta)) {
		return fmt.Errorf("--mta: %q is none of %v", o.mta, setup.MTAs)
	}
	found := setup.Detect(ctx, system, setup.MTA(o.mta))
	answers := found.Answers()
	o.override(&answers)
	fmt.Fprintf(talk, "mail server: %s\n", answers.MTA)
	for _, note := range found.Notes {
		fmt.Fprintf(talk, "note: %s\n", note)
	}
	if ask {
		if err := dialogue(&answers, bufio.NewReader(in), talk); err != nil {
			return err
		}
	}
	if err := complete(answers); err != nil {
		return err
	}
	text, err := answers.Config()
	if err != nil {
		return err
	}
	c, problems := config.Parse(o.output, []byte(text), all.Specs())
	if c == nil {
		return problems
	}
	if _, more := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone())); more.Failed() {
		return more
	}
	if o.output == "-" {
		_, err = io.WriteString(out, text)
	} else if err = writeNew(o.output, text); err == nil {
		fmt.Fprintf(talk, "wrote %s\n", o.output)
	}
	if err != nil {
		return err
	}
	printSteps(talk, found.Steps(answers), o.output)
	return nil
}

// override puts what flags say in the place of what was found.
func (o initFlags) override(a *setup.Answers) {
	for _, f := range []struct {
		flag   string
		answer *string
	}{{o.hostname, &a.Hostname}, {o.backend, &a.Backend}, {o.contact, &a.Contact}, {o.listen, &a.Listen}, {o.way, (*string)(&a.ClientAddress)}} {
		if f.flag != "" {
			*f.answer = f.flag
		}
	}
	if o.certificate != "" {
		a.Certificate, a.Key = o.certificate, o.key
		if a.Key == "" {
			a.Key = a.Certificate
		}
	}
	if len(o.domains) > 0 {
		a.Domains = o.domains
	}
}

// dialogue asks for each answer; an empty line takes what was found.
func dialogue(a *setup.Answers, in *bufio.Reader, talk io.Writer) error {
	domains, way := strings.Join(a.Domains, " "), string(a.ClientAddress)
	for _, q := range []struct {
		question string
		answer   *string
	}{
		{"The name of this machine in the MX records", &a.Hostname},
		{"Domains that mail is taken for", &domains},
		{"Where the mail server shall listen", &a.Backend},
		{"How it learns the client's address (xclient, proxy-v2, none, …)", &way},
		{"File with the certificate chain (- for none)", &a.Certificate},
		{"File with its key", &a.Key},
		{"Where refused senders find help (URL or address)", &a.Contact},
	} {
		if q.answer == &a.Key && a.Certificate == "" {
			continue
		}
		fmt.Fprintf(talk, "%s [%s]: ", q.question, *q.answer)
		line, err := in.ReadString('\n')
		if err != nil && !(errors.Is(err, io.EOF) && line != "") {
			return fmt.Errorf("nothing was written: %w", err)
		}
		switch line = strings.TrimSpace(line); line {
		case "":
		case "-":
			*q.answer = ""
		default:
			*q.answer = line
		}
	}
	a.Domains = strings.FieldsFunc(domains, func(r rune) bool { return r == ' ' || r == ',' })
	a.ClientAddress = backend.ClientAddress(way)
	return nil
}

// complete says what a person has to tell.
func complete(a setup.Answers) error {
	switch {
	case len(a.Domains) == 0:
		return errors.New("no domain was found that mail is taken for: give --domain example.org, once for each")
	case a.Hostname == "":
		return errors.New("this machine's name was not found: give --hostname mx.example.org")
	}
	return nil
}

// mayWrite is an error where a file with settings would be lost.
func mayWrite(path string) error {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return fmt.Errorf("%s exists and has settings, and is not overwritten; write elsewhere with -o, or print with -o -", path)
		}
	}
	return nil
}

// writeNew writes a file that all but its group and owner are kept from, since keys of lists come there. A file without
// settings that stands there is moved aside; the new one has its group and mode.
func writeNew(path, text string) error {
	mode, group := fs.FileMode(0o640), -1
	if info, err := os.Stat(path); err == nil {
		mode, group = info.Mode().Perm(), groupOf(info)
		if err := os.Link(path, path+".orig"); err != nil { // unlike a rename it overwrites nothing
			return fmt.Errorf("the file that is there cannot be kept: %w", err)
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	} else if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if group >= 0 {
		err = errors.Join(err, f.Chown(-1, group))
	}
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

func groupOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}

// printSteps are for a shell: what is not a command is a comment.
func printSteps(w io.Writer, s setup.Steps, file string) {
	if file == "-" {
		file = "gatepost.yaml"
	}
	if len(s.Do) == 0 {
		fmt.Fprintln(w, "\n# The lines for the mail server are in docs/mta, what works with which in docs/backends.md.")
	} else {
		fmt.Fprintf(w, "\n# 1. Move the mail server to its new port. Until gatepost runs, senders try again.\n%s\n", strings.Join(s.Do, "\n"))
	}
	fmt.Fprintf(w, "\n# 2. Start gatepost, and have everything looked at.\ngatepost check -c %s && systemctl enable --now gatepost && gatepost doctor -c %s\n", file, file)
	if len(s.Undo) > 0 {
		fmt.Fprintf(w, "\n# To undo it:\n# systemctl disable --now gatepost\n# %s\n", strings.ReplaceAll(strings.Join(s.Undo, "\n"), "\n", "\n# "))
	}
}
