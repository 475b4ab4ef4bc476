package dkim

import (
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
		fmt.Fprintf(&b, "DKIM-Signature: v=1; a=rsa-sha256; c=%s; d=example.org; s=s%d; %sh=%s; bh=AAAA; b=%s\r\n", canonicalization, i, extra, h, strings.Repeat("B", 683)+"=")
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
	intact := fill("", "a ")[2:]
	hash := sha256.Sum256([]byte(intact))
	keys := strings.ReplaceAll(strings.ReplaceAll(few, "bh=AAAA", "bh="+base64.StdEncoding.EncodeToString(hash[:])), "relaxed/relaxed", "relaxed/simple")
	return map[string]string{
		"intact body":        keys + "\r\n" + intact,
		"empty lines":        fill(few, "\r\n"),
		"blanks":             fill(few, " "),
		"blank lines":        fill(few, " \r\n"),
		"words":              fill(few, "a "),
		"letters":            fill(few, "a"),
		"many fields":        fill(fiveSignatures("from:n", "")+fields.String()+fromField, "a "),
		"many names":         fill(fiveSignatures(strings.Repeat("x:", 199)+"from", "")+strings.Repeat("X: 1\r\n", 900)+fromField, "a "),
		"long names":         fill(strings.Replace(few, "h=from", "h="+names, 3)+fromField, "a "),
		"folded signature":   fill("DKIM-Signature: v=1; z="+strings.Repeat("\r\n ", 20000)+"; a=rsa-sha256; d=example.org; s=s0; h=from; bh=AAAA; b=AAAA\r\n"+fromField, "a "),
		"many tags":          fill("DKIM-Signature: v=1; "+strings.Repeat("z=1;", 15000)+"\r\n"+fromField, "a "),
		"one folded field":   few + "X: " + strings.Repeat("\r\n ", size/3) + "\r\n\r\n",
		"only signatures":    strings.Repeat("DKIM-Signature: v=1\r\n", size/21),
		"only fields":        strings.Repeat("x:\r\n", size/4),
		"unsigned, fields":   strings.Repeat("x:\r\n", size/4) + "\r\n",
		"bare line feeds":    fill(few, "\n"),
		"bare returns":       fill(few, "\r"),
		"nothing but header": fill(few, "a")[:60<<10],
	}
}

func hostileZone() *filtertest.Zone {
	zone := filtertest.NewZone()
	for i := range 5 {
		for range maxKeys {
			key := fakeKey(4096)
			key.E = 1<<31 - 1 // the largest that Go takes
			zone.Add(fmt.Sprintf("s%d._domainkey.example.org", i), "TXT", rsaText(key))
		}
	}
	return zone
}

// A message of 1 MiB may cost 50 ms of CPU and 8 MiB. The memory is held here; the time is shown, and follows from the
// bounds: at most two hashes of the body, five of the header, twenty RSA operations.
func TestHostileMessages(t *testing.T) {
	zone := hostileZone()
	for name, text := range hostile() {
		f, err := New(Config{}, filtertest.NewEnv(zone))
		if err != nil {
			t.Fatal(err)
		}
		m := newMessage(text)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := cpu(t)
		facts, err := f.Message(t.Context(), filters.View{Message: m})
		used := cpu(t) - start
		runtime.ReadMemStats(&after)
		if err != nil || facts.Result == "pass" {
			t.Errorf("%s: %+v, %v", name, facts, err)
			continue
		}
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%-18s %7.1f ms CPU, %5d KiB: %s, %s", name, float64(used.Microseconds())/1000, allocated>>10, facts.Result, facts.Reason)
		if allocated > 8<<20 {
			t.Errorf("%s: %d KiB allocated, want at most 8 MiB", name, allocated>>10)
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

func TestLongLegitimateMessageIsHashedInConstantMemory(t *testing.T) {
	body := strings.Repeat(strings.Repeat("word ", 15)+"\r\n", 16<<20/77)
	text := signSimple(edKey, plainTags, fromField, body) + fromField + "\r\n" + body
	m := newMessage(text)
	defer m.Release()
	f, _ := New(Config{}, filtertest.NewEnv(plainZone()))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	facts, err := f.Message(t.Context(), filters.View{Message: m})
	runtime.ReadMemStats(&after)
	if err != nil || facts.Result != "pass" {
		t.Fatalf("%+v, %v", facts, err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 256<<10 {
		t.Errorf("%d KiB allocated for a body of 16 MiB", allocated>>10)
	}
}
