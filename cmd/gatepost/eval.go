package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/policy"
	"gatepost/proxy/config"
	"gatepost/proxy/resolver"
	"gatepost/proxy/telemetry"
	"gatepost/proxy/wire"
	"gatepost/rules"
)

// evaluation is one message and the circumstances under which it is judged.
type evaluation struct {
	client     string
	helo       string
	from       string
	recipients []string
	message    string // file name, or - for standard input
	zone       string // file with DNS records that answer instead of the network
	now        string
	asJSON     bool
}

func evalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval MESSAGE.eml",
		Short: "Judge one message by the configuration and explain the verdict; no backend is asked and no state is touched",
		Long: `Judge one message by the configuration and explain the verdict. No backend is asked and no state is touched: the
store is an empty one in memory, so that greylist.state is always "new". MESSAGE.eml may be "-" for standard input.

With --json, .facts holds every fact by its filter, as in .facts.spf.result. One that is absent is null: its filter is off,
could not tell (.filters says why), was needed by no rule, or the message was refused before. A list is always a list; what
dkim says of each signature stands in lists of the same order, .facts.dkim.results beside .facts.dkim.signers.

  gatepost eval --json --rcpt joe@example.org --from ann@example.com --ip 192.0.2.1 m.eml | jq -r .facts.dmarc.result

--dns-zone takes a JSON object of names, {"example.com": [{"t": "TXT", "v": ["v=spf1 -all"]}]}, or lines such as
"example.com TXT v=spf1 -all"; what is not in it does not exist, and {"t": "TIMEOUT"} does not answer.`,
		Args: cobra.ExactArgs(1),
	}
	file := configFlag(cmd)
	var e evaluation
	flags := cmd.Flags()
	flags.StringVar(&e.client, "ip", "192.0.2.1", "the client's `address`")
	flags.StringVar(&e.helo, "helo", "client.invalid", "what the client says in EHLO")
	flags.StringVar(&e.from, "from", "", "the reverse-path; empty for the null one")
	flags.StringArrayVar(&e.recipients, "rcpt", nil, "a recipient; may be given several times")
	flags.StringVar(&e.zone, "dns-zone", "", "JSON `file` with DNS records that answer instead of the network")
	flags.StringVar(&e.now, "now", "", "the `time` that it is, as 2006-01-02T15:04:05Z")
	flags.BoolVar(&e.asJSON, "json", false, "print facts, rules and verdict as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e.message = args[0]
		return e.run(cmd.Context(), *file, cmd.OutOrStdout())
	}
	return cmd
}

func (e *evaluation) run(ctx context.Context, file string, w io.Writer) error {
	specs := all.Specs()
	c, problems := config.Load(file, specs)
	if c == nil {
		return problems
	}
	clock, err := e.clock()
	if err != nil {
		return err
	}
	lookup, closeResolver, err := e.resolver(c, clock)
	if err != nil {
		return err
	}
	defer closeResolver()
	env := filters.Env{Hostname: c.Hostname, Domains: c.Domains, Resolver: lookup, Store: filtertest.NewStore(clock),
		Clock: clock, Log: telemetry.NewLogger(telemetry.Config{Format: c.Log.Format, Level: telemetry.Level(slog.LevelWarn)}, os.Stderr)}
	engine, problems := c.Compile(specs, env)
	if engine == nil {
		return problems
	}
	runner, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() { defer close(done); engine.Run(runner) }()
	record, err := e.judge(ctx, c, engine, clock)
	stop()
	<-done
	if err != nil {
		return err
	}
	if e.asJSON {
		return writeRecordJSON(w, engine.Schema(), record)
	}
	return writeRecord(w, record)
}

func (e *evaluation) clock() (filters.Clock, error) {
	if e.now == "" {
		return filters.SystemClock{}, nil
	}
	t, err := time.Parse(time.RFC3339, e.now)
	if err != nil {
		return nil, fmt.Errorf("--now: %q is not a time such as 2026-11-22T10:00:00Z", e.now)
	}
	return filtertest.NewClockAt(t), nil
}

func (e *evaluation) resolver(c *config.Config, clock filters.Clock) (filters.Resolver, func(), error) {
	if e.zone == "" {
		r, err := resolver.New(c.Resolver, clock, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, nil, fmt.Errorf("resolver: %w", err)
		}
		return r, r.Close, nil
	}
	text, err := os.ReadFile(e.zone)
	if err != nil {
		return nil, nil, err
	}
	zone, err := filtertest.ParseZone(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", e.zone, err)
	}
	return zone, func() {}, nil
}

// keepRecord is a recorder that keeps the transaction's record.
type keepRecord struct{ record *policy.Record }

func (k *keepRecord) Record(r *policy.Record) {
	if r.Kind == policy.TransactionRecord {
		k.record = r
	}
}

// judge takes the message through a gate as a front end would, but for the backend, which takes everything.
func (e *evaluation) judge(ctx context.Context, c *config.Config, engine *policy.Engine, clock filters.Clock) (*policy.Record, error) {
	client, err := netip.ParseAddr(e.client)
	if err != nil {
		return nil, fmt.Errorf("--ip: %w", err)
	}
	sender, _, err := wire.ParseMail("FROM:" + inBrackets(e.from))
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	if len(e.recipients) == 0 {
		return nil, errors.New("--rcpt is missing: whom is the message for?")
	}
	for i, recipient := range e.recipients {
		path, _, err := wire.ParseRcpt("TO:" + inBrackets(recipient))
		if err != nil {
			return nil, fmt.Errorf("--rcpt %s: %w", recipient, err)
		}
		e.recipients[i] = path.Address
	}
	message, err := e.read(c)
	if err != nil {
		return nil, err
	}
	kept := &keepRecord{}
	address := netip.AddrPortFrom(client, 25000)
	local := netip.MustParseAddrPort("127.0.0.1:25")
	session := &filters.Session{ID: "EVAL", Client: filters.ClientAt(address), To: &local, Accepted: clock.Now()}
	session.Trusted = engine.Trusts(client)
	gate := engine.NewGate(session, &policy.Runtime{Recorder: kept, Bypass: &policy.Bypass{}, Clock: clock})
	ending := e.dialogue(ctx, gate, &filters.Envelope{ID: "EVAL.1", ReversePath: sender.Address, UTF8: sender.UTF8, Started: clock.Now()}, message)
	gate.Conclude(ending)
	gate.Close("")
	message.Release()
	return kept.record, nil
}

// inBrackets takes an address as people write it and as SMTP does.
func inBrackets(address string) string {
	if strings.HasPrefix(address, "<") {
		return address
	}
	return "<" + address + ">"
}

// dialogue returns how the transaction ends: by the first refusal that concerns all of it.
func (e *evaluation) dialogue(ctx context.Context, gate *policy.Gate, envelope *filters.Envelope, message *filters.Message) policy.Ending {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	gate.Connect(ctx)
	for _, step := range []func() policy.Verdict{
		func() policy.Verdict { return gate.Greet(ctx, false, 0) },
		func() policy.Verdict {
			return gate.Helo(ctx, &filters.Greeting{Name: e.helo, Extended: filters.Known(true)})
		},
		func() policy.Verdict { return gate.Mail(ctx, envelope) },
		func() policy.Verdict { return e.askRecipients(ctx, gate) },
		func() policy.Verdict { return gate.Data(ctx) },
	} {
		if v := step(); v.Action != 0 && v.Action != rules.Discard {
			return policy.Ending{Reply: v.Reply, Ours: true}
		}
	}
	gate.Message(message)
	v, _ := gate.EndOfData(ctx)
	if v.Action != 0 {
		return policy.Ending{Reply: v.Reply, Ours: true, Size: message.Size()}
	}
	return policy.Ending{Reply: rules.Reply{Code: 250, Enhanced: "2.0.0", Text: "passed on to the backend"}, Size: message.Size()}
}

// askRecipients returns a refusal only if no recipient is left.
func (e *evaluation) askRecipients(ctx context.Context, gate *policy.Gate) policy.Verdict {
	var refusal policy.Verdict
	accepted := 0
	for _, address := range e.recipients {
		v := gate.Rcpt(ctx, &filters.Recipient{ForwardPath: address})
		if v.Action == 0 {
			v = gate.Accepted(ctx)
		}
		if v.Action == 0 {
			accepted++
		} else {
			refusal = v
		}
	}
	if accepted > 0 {
		return policy.Verdict{}
	}
	return refusal
}

// read takes the message from its file, line ends made CRLF as the proxy does.
func (e *evaluation) read(c *config.Config) (*filters.Message, error) {
	in := io.Reader(os.Stdin)
	if e.message != "-" {
		f, err := os.Open(e.message)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	limit := int64(c.Limits.MessageSize)
	text, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than limits.message_size, %s", e.message, c.Limits.MessageSize)
	}
	message := filters.NewMessage(limit*2+1, nil)
	decoder := wire.NewDataDecoder(wire.Chunks)
	for len(text) > 0 {
		written, used, _ := decoder.Decode(message.Space(), text)
		if err := message.Commit(written); err != nil {
			return nil, err
		}
		text = text[used:]
	}
	if err := message.Commit(decoder.Finish(message.Space())); err != nil {
		return nil, err
	}
	message.Complete()
	return message, nil
}
