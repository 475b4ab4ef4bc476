package dkim

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestBounds(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want Result
	}{
		"a long field":         {"X: " + strings.Repeat("x\r\n ", 16<<10) + "x\r\n", Policy},
		"many bytes":           {strings.Repeat("X: "+strings.Repeat("x", 95)+"\r\n", 660), Policy},
		"many fields":          {strings.Repeat("X: 1\r\n", 999), Policy},
		"as many as can be":    {strings.Repeat("X: 1\r\n", 998), Pass},
		"beyond what is read":  {strings.Repeat("X: "+strings.Repeat("x", 95)+"\r\n", 3000), Policy},
		"too many to be split": {strings.Repeat("X:\r\n", 5000), Policy},
	} {
		zone := plainZone()
		f := observe(t, zone, test.text+signed(plainTags))
		if f.Result != string(test.want) {
			t.Errorf("%s: %s, %s", name, f.Result, f.Reason)
		}
		if test.want != Pass && zone.Queries() > 0 {
			t.Errorf("%s: %d look-ups", name, zone.Queries())
		}
	}
	// Without a signature there is nothing to refuse, but for a header whose end is out of sight.
	if f := observe(t, plainZone(), strings.Repeat("X: 1\r\n", 2000)+fromField+"\r\n"); f.Result != "none" {
		t.Errorf("unsigned: %s", f.Result)
	}
	if f := observe(t, plainZone(), strings.Repeat("X:\r\n", 5000)+fromField+"\r\n"); f.Result != "policy" {
		t.Errorf("unsigned as far as can be seen: %s", f.Result)
	}
}

func TestOnlyFiveSignaturesAreLookedAt(t *testing.T) {
	var text strings.Builder
	zone := filtertest.NewZone()
	for i := range 8 {
		text.WriteString(signSimple(edKey, strings.Replace(plainTags, "s=sel", fmt.Sprint("s=s", i), 1), fromField, plainBody))
		zone.Add(fmt.Sprintf("s%d._domainkey.example.org", i), "TXT", edText)
	}
	f := observe(t, zone, text.String()+fromField+"\r\n"+plainBody)
	if f.Signatures != 8 || zone.Queries() != 5 || !slices.Equal(f.Selectors, []string{"s0", "s1", "s2", "s3", "s4"}) {
		t.Errorf("%d signatures, %d look-ups, %q", f.Signatures, zone.Queries(), f.Selectors)
	}
}

func TestOneLookupForOneKey(t *testing.T) {
	zone := plainZone()
	one := signSimple(edKey, plainTags, fromField, plainBody)
	if f := observe(t, zone, one+one+one+fromField+"\r\n"+plainBody); zone.Queries() != 1 || f.Result != "pass" {
		t.Errorf("%d look-ups, %s", zone.Queries(), f.Result)
	}
}

func TestUnsignedMessageIsDoneWithItsHeader(t *testing.T) {
	for name, header := range map[string]string{
		"unsigned":          fromField + "\r\n",
		"no hope of a pass": "DKIM-Signature: v=1; a=rsa-sha1; d=example.org; s=sel; h=from; bh=AAAA; b=AAAA\r\n" + fromField + "\r\n",
	} {
		m := filters.NewMessage(1<<20, nil)
		m.Write([]byte(header + "the body has not")) // arrived
		zone := plainZone()
		f, err := New(Config{}, filtertest.NewEnv(zone))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Message(t.Context(), filters.View{Message: m}); err != nil || zone.Queries() > 0 {
			t.Errorf("%s: %v, %d look-ups", name, err, zone.Queries())
		}
		m.Complete()
		m.Release()
	}
}
