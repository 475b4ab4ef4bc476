package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/policy/replay"
	"gatepost/proxy/config"
	"gatepost/proxy/journal"
	"gatepost/rules"
)

// past is the part of a journal that a command runs again.
type past struct{ since, until, folder string }

func (p *past) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&p.since, "since", "7d", "what ended then or later: `time` or span")
	flags.StringVar(&p.until, "until", "", "what ended before: `time` or span")
	flags.StringVar(&p.folder, "journal", "", "`folder` of the journal; default: that of the configuration")
}

// each hands on what was recorded, in the order in which it was written. It is good until yield returns.
func (p *past) each(cmd *cobra.Command, file string, yield func(*journal.Entry, *policy.Recording)) error {
	now := time.Now()
	since, err := pointInTime(p.since, now)
	if err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	until, err := pointInTime(p.until, now)
	if err != nil {
		return fmt.Errorf("--until: %w", err)
	}
	reader, err := p.open(cmd, file)
	if err != nil {
		return err
	}
	defer reader.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	progress := newProgress(cmd.ErrOrStderr(), since, now)
	defer progress.end()
	err = reader.Each(ctx, journal.Query{Since: since, Until: until}, func(e *journal.Entry) bool {
		if e.Session != nil {
			yield(e, e.Recording())
		}
		progress.at(e.End)
		return true
	})
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	return err
}

// recorded is a part of a journal to be run again, and what was changed meanwhile.
type recorded struct {
	// mail hands on what was recorded, in the order in which it was written. It is good until yield returns.
	mail func(yield func(*journal.Entry, *policy.Recording)) error
	// changes hands on all changes that the journal knows, those before the part among them, the oldest first.
	changes func(yield func(*journal.Change)) error
}

// of is the part of the journal as commands read it.
func (p *past) of(cmd *cobra.Command, file string) recorded {
	return recorded{
		mail: func(yield func(*journal.Entry, *policy.Recording)) error { return p.each(cmd, file, yield) },
		changes: func(yield func(*journal.Change)) error {
			reader, err := p.open(cmd, file)
			if err != nil {
				return err
			}
			defer reader.Close()
			return eachChange(cmd.Context(), reader, yield)
		},
	}
}

func eachChange(ctx context.Context, r *journal.Reader, yield func(*journal.Change)) error {
	return r.Each(ctx, journal.Query{Changes: journal.ChangesOnly}, func(e *journal.Entry) bool {
		yield(e.Change)
		return ctx.Err() == nil
	})
}

func (p *past) open(cmd *cobra.Command, file string) (*journal.Reader, error) {
	if p.folder == "" {
		reader, _, err := openJournal(cmd, file)
		return reader, err
	}
	return journal.NewReader(p.folder, func(d journal.Damage) { fmt.Fprintln(cmd.ErrOrStderr(), "journal:", d) })
}

// loaded is a configuration that can be used. What is wrong with another is the error.
func loaded(file string) (*config.Config, error) {
	c, problems := config.Load(file, all.Specs())
	if c == nil {
		return nil, allProblems(file, problems)
	}
	return c, nil
}

// newTrial makes a backtest of a configuration, with one of its observed rules enforced if that is named.
func newTrial(c *config.Config, enforced string) (*replay.Backtest, error) {
	tried := *c
	tried.Rules = slices.Clone(c.Rules)
	for i := range tried.Rules {
		if enforced != "" && tried.Rules[i].Name.Text == enforced {
			tried.Rules[i].Mode = rules.Source{}
		}
	}
	memory := replay.NewMemory()
	env := filtertest.NewEnv(filtertest.NewZone())
	env.Hostname, env.Domains, env.Store, env.Clock, env.Log = c.Hostname, c.Domains, memory, memory.Clock(), slog.New(slog.DiscardHandler)
	engine, problems := tried.Compile(all.Specs(), env)
	if engine == nil {
		return nil, problems
	}
	return replay.New(engine, memory), nil
}

// progress is how far the journal has been read.
type progress struct {
	bar
	from    time.Time
	updated int
}

func newProgress(w io.Writer, from, to time.Time) *progress {
	if from.IsZero() {
		return &progress{}
	}
	return &progress{bar: newBar(w, "reading the journal", int64(to.Sub(from))), from: from}
}

// bar is one on a terminal, and nothing elsewhere.
type bar struct {
	container *mpb.Progress
	bar       *mpb.Bar
}

func newBar(w io.Writer, name string, total int64) (b bar) {
	file, ok := w.(*os.File)
	if !ok {
		return b
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return b
	}
	b.container = mpb.New(mpb.WithOutput(file), mpb.WithWidth(50))
	b.bar = b.container.AddBar(total, mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name+" ")), mpb.AppendDecorators(decor.Percentage()))
	return b
}

func (b *bar) set(done int64) {
	if b.bar != nil {
		b.bar.SetCurrent(done)
	}
}

// everySo is how many entries pass between two looks at the bar.
const everySo = 1000

func (p *progress) at(t time.Time) {
	if p.updated++; p.updated%everySo == 0 {
		p.set(int64(t.Sub(p.from)))
	}
}

// end removes the bar, also one that is not full: a journal ends before now. SetTotal does nothing to a bar that began with
// a total, and Wait would have no end.
func (b *bar) end() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.container.Wait()
	}
}
