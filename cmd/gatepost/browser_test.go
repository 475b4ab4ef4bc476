//go:build browser

package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a real headless Chromium that looks at the admin pages of a running proxy.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex // guards troubles
	troubles []string   // errors on the console, requests to elsewhere
}

// openBrowser starts Chromium, which can reach nothing but this machine.
func openBrowser(t *testing.T, base string) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("Debian's package chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox,
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), chromedp.Flag("disable-component-update", true),
		chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, base: base}
	chromedp.ListenTarget(ctx, b.listen)
	b.run(network.Enable(), log.Enable(), runtime.Enable())
	t.Cleanup(b.expectNoTrouble)
	return b
}

func (b *browser) listen(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.base+"/") && !strings.HasPrefix(e.Request.URL, "about:") {
			b.trouble("a request to " + e.Request.URL)
		}
	case *runtime.EventExceptionThrown:
		b.trouble("a script failed: " + e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		b.trouble("a script wrote to the console: " + string(e.Type))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			b.trouble(e.Entry.Text + " " + e.Entry.URL)
		}
	}
}

func (b *browser) trouble(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = append(b.troubles, text)
}

func (b *browser) expectNoTrouble() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.troubles {
		b.t.Error(text)
	}
	b.troubles = nil
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// open goes to a page and checks that it came.
func (b *browser) open(path, title string) {
	b.t.Helper()
	var heading string
	b.run(chromedp.Navigate(b.base+path), chromedp.Text("h1", &heading, chromedp.ByQuery))
	if !strings.HasPrefix(heading, title) {
		b.t.Errorf("%s is headed %q", path, heading)
	}
}

// text is what an element shows; empty while it is not there, as between two pages.
func (b *browser) text(selector string) (text string) {
	b.t.Helper()
	expression := fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)
	if err := chromedp.Run(b.ctx, chromedp.Evaluate(expression, &text)); err != nil && b.ctx.Err() != nil {
		b.t.Fatal(err)
	}
	return text
}

// await waits until an element shows a text.
func (b *browser) await(selector, want string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		text := b.text(selector)
		if strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s shows %q and not %q", selector, text, want)
		}
	}
}

// look is how a page is looked at.
type look struct {
	name, scheme  string
	width, height int64
}

var looks = []look{{"light", "light", 1280, 900}, {"dark", "dark", 1280, 900}, {"phone", "light", 390, 844}}

// keep takes pictures of the page that is open. None may be wider than its window.
func (b *browser) keep(name string) {
	b.t.Helper()
	folder := os.Getenv("GATEPOST_SCREENSHOTS")
	for _, l := range looks {
		var picture []byte
		var wide bool
		var scheme string
		b.run(emulation.SetDeviceMetricsOverride(l.width, l.height, 1, l.width < 500),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}),
			chromedp.Evaluate(`document.documentElement.scrollWidth > innerWidth`, &wide),
			chromedp.Evaluate(`getComputedStyle(document.documentElement).backgroundColor`, &scheme),
			chromedp.FullScreenshot(&picture, 100))
		if wide {
			b.t.Errorf("%s is wider than the window (%s)", name, l.name)
		}
		if dark := scheme == "rgb(20, 23, 28)"; dark != (l.scheme == "dark") {
			b.t.Errorf("%s is %s for the scheme %s", name, scheme, l.scheme)
		}
		if folder == "" {
			continue
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name+"-"+l.name+".png"), picture, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	b.run(emulation.ClearDeviceMetricsOverride())
}

// adminBase is the address of the admin pages.
func (s *served) adminBase() string {
	return "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(s.awaitLog("the admin pages are served"))[1]
}

// browserRules refuse, watch, greylist, and read a list.
const browserRules = `rules:
  - {name: exceptions, when: 'exception.client == "allowed" or exception.sender == "allowed"', then: accept}
  - {name: partners, when: 'in_list(mail.address, "partners")', then: accept}
  - {name: blocked, when: 'mail.domain == "spam.example.net"', then: reject, reply: '550 5.7.1 mail from {mail.domain} is not wanted here'}
  - {name: newcomers, when: 'mail.domain == "new.example.net"', then: greylist}
  - {name: lottery, when: 'header("Subject") contains "lottery"', then: quarantine}
  - {name: watched, when: 'mail.domain == "example.com"', then: reject, reply: 550 5.7.1 not you, mode: observe}
`

func TestPagesInABrowser(t *testing.T) {
	s := startServe(t, "admin: 127.0.0.1:0\n"+browserRules)
	base := s.adminBase()
	b := openBrowser(t, base)
	for range 3 {
		s.handIn("mail.example.com", "joe@example.com", "Lunch")
		s.handIn("mail.example.net", "ann@example.net", "Minutes of Monday")
	}
	s.handIn("mail.example.net", "win@example.net", "You have won <b>the lottery</b>")
	s.recipient("mallory@spam.example.net", "550")
	s.recipient("first@new.example.net", "451")
	s.recipient(`"<script>alert(1)</script>"@spam.example.net`, "550")
	id := regexp.MustCompile(`id ([0-9A-Z]{13}\.1)`).FindStringSubmatch(s.recipient("mallory@spam.example.net", "550"))[1]
	greylisted := regexp.MustCompile(`id ([0-9A-Z]{13}\.1)`).FindStringSubmatch(s.recipient("second@new.example.net", "451"))[1]
	time.Sleep(time.Second) // an entry is on disk half a second after its end

	open := s.dial()
	open.say("EHLO waits.example.net", "250")
	open.say("MAIL FROM:<waits@example.net>", "250")
	b.open("/", "Now")
	b.await(".sessions tbody", "waits.example.net")
	b.keep("now")
	open.conn.Close()
	for _, page := range []struct{ path, title, name string }{
		{"/search", "Search", "search"}, {"/search?where=" + url.QueryEscape(`verdict == "reject"`), "Search", "search-where"},
		{"/search?where=nonsense", "Search", "search-mistake"}, {"/search?where=" + url.QueryEscape(`kind == "change"`), "Search", "search-changes"}, {"/rules", "Rules", "rules"}, {"/rules/observed", "Rules that are only watched", "observed"}, {"/rules/recommended", "What would fit better", "recommended"}, {"/greylist", "Greylist", "greylist"}, {"/learned", "Learned: ", "learned"},
		{"/exceptions", "Exceptions", "exceptions"}, {"/lists", "Lists", "lists"}, {"/quarantine", "Quarantine", "quarantine"}, {"/configuration", "Configuration", "configuration"},
		{"/transaction/" + id, "Transaction " + id, "transaction"}, {"/transaction/" + greylisted, "Transaction", "transaction-greylisted"},
	} {
		b.open(page.path, page.title)
		b.keep(page.name)
	}

	t.Run("live", func(t *testing.T) {
		b.open("/", "Now")
		b.await("#live-state", "Live")
		before := b.text(".figures")
		s.handIn("mail.example.net", "ann@example.net", "News")
		for deadline := time.Now().Add(patience); b.text(".figures") == before; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nothing changes")
			}
		}
	})
	t.Run("remedy", func(t *testing.T) {
		b.open("/transaction/"+id, "Transaction")
		b.run(chromedp.SetValue("#target", "sender spam.example.net", chromedp.ByQuery), chromedp.SetValue("#why", "a customer <b>", chromedp.ByQuery),
			chromedp.Click(`button[value=allow]`, chromedp.ByQuery))
		b.await(".note", "The sender spam.example.net is allowed until")
		b.keep("remedy")
		s.recipient("mallory@spam.example.net", "250")
		b.open("/exceptions", "Exceptions")
		b.await("tbody", "a customer <b>")
		b.keep("exceptions-one")
	})
	t.Run("change", func(t *testing.T) {
		want := "the sender spam.example.net was allowed by admin page, 127.0.0.1"
		s.awaitJournal(want, "--where", `change == "allow"`)
		b.open("/search?where="+url.QueryEscape(`change == "allow"`), "Search")
		b.await("tbody", want)
		b.run(chromedp.Click("tbody a", chromedp.ByQuery))
		b.await("h1", "Change ")
		b.keep("change")
		b.open("/transaction/"+id, "Transaction")
		b.await(".story", want)
	})
	t.Run("observed", func(t *testing.T) {
		b.open("/rules", "Rules")
		b.run(chromedp.Click(`a[href="/rules/observed"]`, chromedp.ByQuery))
		b.await("h1", "Rules that are only watched")
		b.await("pre", "-  - {name: watched,")
		b.await(".change h3", "3: delivered")
	})
	t.Run("release", func(t *testing.T) {
		b.open("/quarantine", "Quarantine")
		b.run(chromedp.Click("tbody a", chromedp.ByQuery))
		b.await("h1", "Message ")
		b.await("pre", "Subject: You have won <b>the lottery</b>")
		b.keep("message")
		b.run(chromedp.Click("form[action$=release] button", chromedp.ByQuery))
		b.await(".note", "delivered to <alice@example.org>")
		if list := s.backend.Messages(); !strings.Contains(string(list[len(list)-1].Data), "lottery") {
			t.Error("the backend has not got it")
		}
	})
	t.Run("backtest", func(t *testing.T) {
		b.open("/rules", "Rules")
		changed := strings.Replace(browserRules, ", mode: observe", "", 1)
		b.run(chromedp.SetValue("#text", changed, chromedp.ByQuery), chromedp.Click(`form.stack button.main`, chromedp.ByQuery))
		b.await("h1", "What would change")
		b.run(chromedp.WaitReady("footer", chromedp.ByQuery))
		b.await(".note", "Mail that was delivered would be kept out.")
		b.await(".change h3", "3: delivered")
		b.keep("backtest")
		b.run(chromedp.SetValue("#text", strings.Replace(browserRules, "mail.domain", "mail.domian", 1), chromedp.ByQuery), chromedp.Click(`form.stack button.main`, chromedp.ByQuery))
		b.await(".note.bad", "mail.domian")
		b.keep("backtest-mistake")
	})
}
