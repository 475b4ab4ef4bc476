package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"gatepost/proxy/journal"
)

// everyPage is all that a browser can be shown with GET.
var everyPage = []string{
	"/", "/search", "/search?where=bad", "/search?where=" + url.QueryEscape(nasty) + "&since=" + url.QueryEscape(nasty), "/transaction/" + entryID, "/transaction/" + changeID, "/transaction/nothing",
	"/why?about=" + url.QueryEscape(nasty), "/rules", "/rules/observed", "/rules/observed?since=1h", "/rules/observed?since=" + url.QueryEscape(nasty), "/rules/recommended", "/rules/recommended?since=1h", "/greylist", "/greylist?query=bad", "/greylist?query=" + url.QueryEscape(nasty), "/exceptions", "/lists",
	"/learned", "/learned/pools", "/learned/known?query=bad", "/learned/known?query=" + url.QueryEscape(nasty), "/learned/" + url.PathEscape(nasty),
	"/quarantine", "/quarantine/" + entryID, "/quarantine/" + url.PathEscape(nasty), "/configuration", "/?note=" + url.QueryEscape(nasty),
}

func TestHostileWordsArePlainTextOnEveryPage(t *testing.T) {
	v := start(t, Default(), nil)
	v.house.quarantine = true
	for _, path := range everyPage {
		_, text := v.get(path)
		harmless(t, path, text)
		if strings.Contains(text, "nothing to see") {
			t.Errorf("%s: %s", path, text)
		}
	}
	for name, text := range map[string]string{"a trial": v.post("/rules/try", "text", nasty), "a trial with mistakes": v.post("/rules/try", "text", "bad"+nasty)} {
		harmless(t, name, text)
	}
	form := func(values url.Values) string {
		response, _ := v.do("POST", "/exceptions", values.Encode(), nil)
		_, text := v.get(response.Header.Get("Location"))
		return text
	}
	harmless(t, "a note", form(url.Values{"action": {"allow"}, "target": {"sender " + nasty}, "for": {"1d"}, "next": {"/lists?x=" + url.QueryEscape(nasty)}}))
	harmless(t, "a bad note", form(url.Values{"action": {"allow"}, "value": {"bad"}, "for": {"1d"}}))
}

// harmless looks at a page as a browser does: what strangers wrote has made no element, no attribute and no address of
// its own, and nothing in it is invisible.
func harmless(t *testing.T, name, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is not UTF-8", name)
	}
	for _, r := range text {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' {
			t.Errorf("%s has %U", name, r)
			break
		}
	}
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	headings := 0
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.DataAtom {
		case atom.Img, atom.Iframe, atom.Style, atom.Object, atom.Embed, atom.Base:
			t.Errorf("%s has an element %s", name, n.Data)
		case atom.Script:
			if n.FirstChild != nil || len(n.Attr) != 2 || n.Attr[0].Val != "/static/live.js" {
				t.Errorf("%s has a script of its own", name)
			}
		case atom.H1:
			headings++
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "srcdoc" {
				t.Errorf("%s: <%s> has the attribute %s", name, n.Data, a.Key)
			}
			if (a.Key == "href" || a.Key == "src" || a.Key == "action" || a.Key == "formaction") && (!strings.HasPrefix(a.Val, "/") || strings.HasPrefix(a.Val, "//")) && a.Val != "#main" {
				t.Errorf("%s: <%s %s=%q>", name, n.Data, a.Key, a.Val)
			}
		}
	}
	if headings != 1 {
		t.Errorf("%s has %d headings of the first rank:\n%s", name, headings, text)
	}
}

// Who cannot see the page is told what every field is, and finds the landmarks.
func TestPagesCanBeReadAloud(t *testing.T) {
	v := start(t, Default(), nil)
	v.house.quarantine = true
	for _, path := range everyPage {
		_, text := v.get(path)
		root, err := html.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		ids, labels, landmarks := map[string]int{}, map[string]bool{}, map[string]int{}
		var fields []string
		for n := range root.Descendants() {
			attributes := map[string]string{}
			for _, a := range n.Attr {
				attributes[a.Key] = a.Val
			}
			if id := attributes["id"]; id != "" {
				ids[id]++
			}
			switch n.Data {
			case "label":
				labels[attributes["for"]] = true
			case "input", "select", "textarea":
				if attributes["type"] != "hidden" {
					fields = append(fields, attributes["id"])
				}
			case "main", "nav", "header", "footer":
				landmarks[n.Data]++
			case "th":
				if attributes["scope"] == "" {
					t.Errorf("%s: a heading of a table is of no row and of no column", path)
				}
			}
		}
		for _, id := range fields {
			if !labels[id] {
				t.Errorf("%s: the field %q has no label", path, id)
			}
		}
		for id, n := range ids {
			if n > 1 {
				t.Errorf("%s: the id %s is there %d times", path, id, n)
			}
		}
		if landmarks["main"] != 1 || landmarks["nav"] != 1 || landmarks["header"] != 1 || landmarks["footer"] != 1 {
			t.Errorf("%s: %v", path, landmarks)
		}
	}
}

// post sends a form of several parts.
func (v *running) post(path, name, value string) string {
	v.t.Helper()
	var b bytes.Buffer
	parts := multipart.NewWriter(&b)
	if err := parts.WriteField(name, value); err != nil {
		v.t.Fatal(err)
	}
	parts.Close()
	_, text := v.do("POST", path, b.String(), func(r *http.Request) { r.Header.Set("Content-Type", parts.FormDataContentType()) })
	return text
}

func TestRemedies(t *testing.T) {
	v := start(t, Default(), nil)
	v.house.quarantine = true
	for _, test := range []struct {
		path, form, call, told string
	}{
		{"/exceptions", "action=allow&target=sender+ann@example.net&for=30d&why=asked&next=/transaction/x", "allow sender ann@example.net for 720h0m0s asked", "is allowed until"},
		{"/exceptions", "action=block&kind=client&value=192.0.2.7&for=1d", "block client 192.0.2.7 for 24h0m0s ", "changes nothing"},
		{"/exceptions", "action=block&value=192.0.2.7&for=soon", "", "for how long"},
		{"/exceptions/end", "action=allow&kind=sender&value=ann@example.net", "remove allow sender ann@example.net", "as all others again"},
		{"/greylist/pass", "query=192.0.2.7+ann@example.net", "pass 192.0.2.7 ann@example.net", "passes from now on"},
		{"/greylist/forget", "query=example.net", "forget example.net", "Marks forgotten: 2"},
		{"/learned/known/forget", "query=example.net", "forget known example.net", "Forgotten: 2"},
		{"/quarantine/" + entryID + "/release", "next=/quarantine", "release " + entryID, "It is delivered"},
		{"/quarantine/" + entryID + "/delete", "next=/quarantine", "delete " + entryID, "It is deleted"},
	} {
		before := v.house.log()
		response, _ := v.do("POST", test.path, test.form, nil)
		to := response.Header.Get("Location")
		if response.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, "/") {
			t.Errorf("%s %s: %d to %q", test.path, test.form, response.StatusCode, to)
			continue
		}
		if got := strings.TrimPrefix(strings.TrimPrefix(v.house.log(), before), "; "); got != test.call {
			t.Errorf("%s %s: called %q", test.path, test.form, got)
		}
		if at, _ := url.Parse(to); at.Query().Get("note") == "" {
			t.Errorf("nothing is told at %s", to)
		}
		_, text := v.get("/?" + strings.SplitN(to, "?", 2)[1])
		if !strings.Contains(text, test.told) {
			t.Errorf("%s %s: not told %q", test.path, test.form, test.told)
		}
	}
	if response, _ := v.do("POST", "/greylist/pass", "query=x&next=https://evil.example/", nil); !strings.HasPrefix(response.Header.Get("Location"), "/?note=") {
		t.Errorf("sent to %s", response.Header.Get("Location"))
	}
}

func TestThereIsNoQuarantineWithoutOne(t *testing.T) {
	v := start(t, Default(), nil)
	if _, text := v.get("/"); strings.Contains(text, "Quarantine") {
		t.Error("the menu has it")
	}
	if status, _ := v.get("/quarantine"); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
	if status, _ := v.get("/api/quarantine"); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
}

func TestRulesAreHandedBackAndNeverWritten(t *testing.T) {
	v := start(t, Default(), nil)
	if got := v.post("/rules/download", "text", "rules:\r\n  - x\r\n"); got != "rules:\n  - x\n" {
		t.Errorf("%q", got)
	}
	if text := v.post("/rules/try", "text", strings.Repeat("x", maxPasted+1)); !strings.Contains(text, "more than 1.0 MiB") {
		t.Errorf("%.200s", text)
	}
	v.post("/rules/try", "text", "rules: []")
	if got := v.house.log(); got != "try 168h0m0s rules: []" {
		t.Errorf("%q", got)
	}
}

func TestOlderEntries(t *testing.T) {
	v := start(t, Default(), nil)
	_, text := v.get("/search?since=2d&where=" + url.QueryEscape(`verdict == "reject"`))
	want := `/search?since=2d&amp;until=` + url.QueryEscape(iso(nastyEntry().End)) + `&amp;where=verdict&#43;%3D%3D&#43;%22reject%22`
	if !strings.Contains(text, want) {
		t.Errorf("without %s:\n%s", want, text)
	}
}

func TestATransactionThatIsNotAmongTheLatest(t *testing.T) {
	v := start(t, Default(), nil)
	if status, text := v.get("/transaction/" + oldID); status != http.StatusOK || !strings.Contains(text, "<h1>Transaction "+oldID) {
		t.Errorf("%d", status)
	}
	if status, _ := v.get("/transaction/38G29KFPP00XD.3"); status != http.StatusNotFound {
		t.Errorf("%d", status)
	}
}

func TestFewSearchAtATime(t *testing.T) {
	v := start(t, Default(), nil)
	v.house.wait = make(chan struct{})
	ended := make(chan int, maxSearches)
	for range maxSearches {
		go func() {
			response, err := v.client.Get(v.base + "/api/journal")
			if err != nil {
				ended <- 0
				return
			}
			response.Body.Close()
			ended <- response.StatusCode
		}()
	}
	for deadline := time.Now().Add(10 * time.Second); len(v.server.searching) < maxSearches; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("they do not begin")
		}
	}
	if status, text := v.get("/api/journal"); status != http.StatusServiceUnavailable || !strings.Contains(text, "try again") {
		t.Errorf("%d %s", status, text)
	}
	close(v.house.wait)
	for range maxSearches {
		if status := <-ended; status != http.StatusOK {
			t.Errorf("%d", status)
		}
	}
}

func TestEventsAreAPartOfThePage(t *testing.T) {
	v := start(t, Default(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", v.base+"/events", nil)
	response, err := v.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	var text string
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &text); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if kind := response.Header.Get("Content-Type"); kind != "text/event-stream" || !strings.Contains(text, "sessions now") {
		t.Errorf("%s: %q", kind, text)
	}
	harmless(t, "an event", "<h1></h1>"+text)
}

func TestStreamsAreFew(t *testing.T) {
	v := start(t, Default(), nil)
	for range maxStreams {
		v.server.streaming <- struct{}{}
	}
	if status, _ := v.get("/events"); status != http.StatusServiceUnavailable {
		t.Errorf("%d", status)
	}
}

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain\n\ttext": "plain\n\ttext", "grün שלום 漢字": "grün שלום 漢字", "a\x00\x1b[0m\x7f": `a\u{0}\u{1b}[0m\u{7f}`, "\u202eevil": `\u{202e}evil`,
		"\u200b\u00a0": `\u{200b}\u{a0}`, "\xff\x9b": `\xff\x9b`, "a\r\nb": "a\nb", "\U000e0041": `\u{e0041}`,
	} {
		if got := string(visible([]byte(text))); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestTitlesOfEntries(t *testing.T) {
	session := nastyEntry()
	session.Kind, session.Verdict = "session", "abandon"
	if titleOf(session) != "Session "+entryID || verdictOf(session) != "ended" || verdictOf(nastyEntry()) != "reject" {
		t.Error("wrong")
	}
	if lastReply(&journal.Entry{}) != "" {
		t.Error("there was no reply")
	}
}
