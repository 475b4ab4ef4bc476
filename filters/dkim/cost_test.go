package dkim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

// fiveSignatures differ in what they make the verifier do.
func fiveSignatures(h, extra string) string {
	var b strings.Builder
	for i := range 5 {
		canonicalization := [...]string{"relaxed/relaxed", "simple/simple"}[i%2]
		fmt.Fprintf(&b, "DKIM-Signature: v=1; a=rsa-sha256; c=%s; d=example.org; s=s%d; %sh=%s; bh=AAAA; b=%s\r\n", canonicalization, i, extra, h, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 512)))
	}
	return b.String()
}

// hostile are messages of 1 MiB that cost naive verifiers much.
func hostile() map[string]string {
	const size = 1 << 20
	fill := func(header, piece string) string {
		return header + "\r\n" + strings.Repeat(piece, (size-len(header))/len(piece)-1) + "x\r\n"
	}
	few := fiveSignatures("from", "") + fromField
	names := strings.Repeat(strings.Repeat("n", 60)+":", 199) + "from"
	var fields strings.Builder
	for i := range 900 {
		fmt.Fprintf(&fields, "%s%d: x\r\n", strings.Repeat("n", 50), i)
	}
	same := few
	for i := range 5 {
		few = strings.Replace(few, "bh=AAAA", fmt.Sprintf("bh=%dAAA", i), 1)
	}
	var absent strings.Builder
	for i := range 198 {
		fmt.Fprintf(&absent, "a%d:", i)
	}
	intact := fill("", "a ")[2:]
	hash := sha256.Sum256([]byte(intact))
	keys := strings.ReplaceAll(strings.ReplaceAll(same, "bh=AAAA", "bh="+base64.StdEncoding.EncodeToString(hash[:])), "relaxed/relaxed", "relaxed/simple")
	return map[string]string{
		"one body":              fill(same, "a "),
		"runs of empty lines":   fill(few, strings.Repeat("\r\n", maxBlank)+"x"),
		"runs of blank lines":   fill(keys, strings.Repeat(" \r\n", maxBlank-1)+"x"),
		"short lines":           fill(few, "a\r\n"),
		"signed folded field":   fill(fiveSignatures("from:x", "")+fromField+"X: "+strings.Repeat("\r\n ", 20000)+"\r\n", "a "),
		"signed folded lines":   fill(fiveSignatures("from:x", "")+fromField+"X: "+strings.Repeat(strings.Repeat("x", 76)+"\r\n ", 700)+"\r\n", "a "),
		"folding within bounds": fill(fiveSignatures("from:x", "")+fromField+"X: "+strings.Repeat(strings.Repeat("x", 76)+"\r\n ", 75)+"\r\n", "a "),
		"intact body":           keys + "\r\n" + intact,
		"empty lines":           fill(few, "\r\n"),
		"blanks":                fill(few, " "),
		"blank lines":           fill(few, " \r\n"),
		"words":                 fill(few, "a "),
		"letters":               fill(few, "a"),
		"many fields":           fill(fiveSignatures("from:n", "")+fields.String()+fromField, "a "),
		"absent names":          fill(fiveSignatures(absent.String()+"y:from", "")+strings.Repeat("Y: 1\r\n", 900)+fromField, "a "),
		"many names":            fill(fiveSignatures(strings.Repeat("x:", 199)+"from", "")+strings.Repeat("X: 1\r\n", 900)+fromField, "a "),
		"long names":            fill(strings.Replace(few, "h=from", "h="+names, 3)+fromField, "a "),
		"folded signature":      fill("DKIM-Signature: v=1; z="+strings.Repeat("\r\n ", 20000)+"; a=rsa-sha256; d=example.org; s=s0; h=from; bh=AAAA; b=AAAA\r\n"+fromField, "a "),
		"many tags":             fill("DKIM-Signature: v=1; "+strings.Repeat("z=1;", 15000)+"\r\n"+fromField, "a "),
		"one folded field":      few + "X: " + strings.Repeat("\r\n ", size/3) + "\r\n\r\n",
		"only signatures":       strings.Repeat("DKIM-Signature: v=1\r\n", size/21),
		"only fields":           strings.Repeat("x:\r\n", size/4),
		"unsigned, fields":      strings.Repeat("x:\r\n", size/4) + "\r\n",
		"bare line feeds":       fill(few, "\n"),
		"bare returns":          fill(few, "\r"),
		"nothing but header":    fill(few, "a")[:60<<10],
	}
}

func hostileZone() *filtertest.Zone {
	zone := filtertest.NewZone()
	for i := range 5 {
		for range maxKeys {
			key := fakeKey(4096)
			zone.Add(fmt.Sprintf("s%d._domainkey.example.org", i), "TXT", rsaText(key))
		}
	}
	return zone
}

// A message of 1 MiB may cost 50 ms of CPU and 8 MiB. Memory is held here, counted as all that is allocated and not only
// what is held at once. The time is shown, and follows from the bounds: the body is read once by us and at most twice by
// go-msgauth, and there are at most twenty keys of ours and two of its.
func TestHostileMessages(t *testing.T) {
	zone := hostileZone()
	for name, text := range hostile() {
		m := newMessage(text)
		c := check{resolver: zone, now: filtertest.NewEnv(zone).Clock.Now()}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := cpu(t)
		err := c.run(t.Context(), m)
		used := cpu(t) - start
		runtime.ReadMemStats(&after)
		facts := c.facts()
		if err != nil || facts.Result == "pass" {
			t.Errorf("%s: %+v, %v", name, facts, err)
			continue
		}
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%-21s %5.1f ms CPU, %5d KiB, go-msgauth %d times: %s, %s", name, float64(used.Microseconds())/1000, allocated>>10, c.second.asked, facts.Result, facts.Reason)
		if allocated > 8<<20 || c.second.asked > maxOpinions {
			t.Errorf("%s: %d KiB allocated, go-msgauth was asked %d times", name, allocated>>10, c.second.asked)
		}
		m.Release()
	}
}

func cpu(t *testing.T) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// file is a spill that holds a whole message. It counts what is read of it.
type file struct {
	data   []byte
	read   int
	atRead func()
	fail   func() error
}

func (f *file) Create() (filters.SpillFile, error) { return f, nil }
func (f *file) Reserve(int64) bool                 { return true }
func (f *file) Unreserve(int64)                    {}
func (f *file) Close() error                       { return nil }

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	f.data = append(f.data[:at], p...)
	return len(p), nil
}

func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if f.fail != nil && f.fail() != nil {
		return 0, f.fail()
	}
	n := copy(p, f.data[at:])
	f.read += n
	if f.atRead != nil {
		f.atRead()
	}
	return n, nil
}

func newFileMessage(t *testing.T, text string) (*filters.Message, *file) {
	f := &file{}
	m := filters.NewMessage(0, f)
	if _, err := m.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	m.Complete()
	return m, f
}

func TestHowOftenTheBodyIsRead(t *testing.T) {
	body := strings.Repeat(strings.Repeat("word ", 15)+"\r\n", 1<<20/77)
	sign := func(n int, tags, body string) (signatures string) {
		for range n {
			signatures += signSimple(edKey, tags, fromField, body)
		}
		return signatures
	}
	relaxed := strings.Replace(plainTags, "v=1;", "v=1; c=simple/relaxed;", 1)
	folded := strings.ReplaceAll(body, " \r\n", "\r\n")
	withZ := strings.Replace(plainTags, "v=1;", "v=1; z=Subject:b=20=lob=x;", 1)
	for _, test := range []struct {
		name, header string
		asked        int
		results      string
		body         string
	}{
		{"one signature", sign(1, plainTags, body), 0, "[pass]", body},
		{"five", sign(5, plainTags, body), 0, "[pass pass pass pass pass]", body},
		{"five of both kinds", sign(4, plainTags, body) + sign(1, relaxed, folded), 0, "[pass pass pass pass pass]", body},
		{"one body that differs", sign(2, plainTags, "another") + sign(3, plainTags, body), 2, "[fail fail pass pass pass]", body},
		{"five bodies", sign(1, plainTags, "1") + sign(1, plainTags, body) + sign(1, plainTags, "3") + sign(1, plainTags, "4") + sign(1, relaxed, folded), 2, "[fail pass fail fail pass]", body},
		{"beyond the library", sign(5, withZ, "another"), 0, "[fail fail fail fail fail]", body},
		{"nothing to verify", sign(5, strings.Replace(plainTags, "s=sel", "s=nothing", 1), body), 0, "[permerror permerror permerror permerror permerror]", body},
	} {
		m, f := newFileMessage(t, test.header+fromField+"\r\n"+test.body)
		c := check{resolver: plainZone(), now: filtertest.NewEnv(plainZone()).Clock.Now()}
		if err := c.run(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.facts().Results); got != test.results {
			t.Errorf("%s: %s, want %s", test.name, got, test.results)
		}
		if reads := float64(f.read) / float64(m.Size()); c.second.asked != test.asked || reads > float64(test.asked)*1.1+1.1 {
			t.Errorf("%s: %d times, %.2f times read, want %d and one more", test.name, c.second.asked, reads, test.asked)
		}
		m.Release()
	}
}

func TestLongMessageIsVerifiedInConstantMemory(t *testing.T) {
	body := strings.Repeat(strings.Repeat("word ", 15)+"\r\n", 16<<20/77)
	for signedBody, want := range map[string]string{body: "pass", "another": "fail"} {
		m, file := newFileMessage(t, signSimple(edKey, plainTags, fromField, signedBody)+fromField+"\r\n"+body)
		f, _ := New(Config{}, filtertest.NewEnv(plainZone()))
		held := func() uint64 {
			var now runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&now)
			return now.HeapAlloc
		}
		before, most, reads := held(), uint64(0), 0
		file.atRead = func() {
			if reads++; reads%50 == 0 {
				most = max(most, held())
			}
		}
		facts, err := f.Message(t.Context(), filters.View{Message: m})
		if err != nil || facts.Result != want {
			t.Fatalf("%+v, %v", facts, err)
		}
		if most == 0 || most > before+1<<20 {
			t.Errorf("%s: %d KiB held for a body of 16 MiB", want, (int64(most)-int64(before))>>10)
		}
		m.Release()
	}
}
