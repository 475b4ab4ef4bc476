package dkim

import (
	"slices"
	"strings"
	"testing"
)

func TestSignedFieldsAreTakenFromTheBottom(t *testing.T) {
	const first, second = "X: 1\r\n", "x : 2\r\n"
	for _, test := range []struct {
		name, h, signed, header string
		want                    Result
	}{
		{"lowest first", "from:x", fromField + second, first + second + fromField, Pass},
		{"both", "x:from:X", second + fromField + first, first + second + fromField, Pass},
		{"more than there are", "x:x:x:x:from:from", second + first + fromField, first + second + fromField, Pass},
		{"added above", "from:x", fromField + second, "X: 3\r\n" + first + second + fromField, Pass},
		{"added below", "from:x", fromField + second, first + second + "X: 3\r\n" + fromField, Fail},
		{"another From above", "from", fromField, "From: <eve@example.net>\r\n" + fromField, Pass},
		{"another From, oversigned", "from:from", fromField, "From: <eve@example.net>\r\n" + fromField, Fail},
		{"not itself", "from:dkim-signature", fromField, fromField, Pass},
		{"a name that is not there", "from:nothing", fromField, fromField, Pass},
		{"an empty name", "from::", fromField, "junk\r\n" + fromField, Pass},
	} {
		text := signSimple(edKey, strings.Replace(plainTags, "h=from", "h="+test.h, 1), test.signed, plainBody) + test.header + "\r\n" + plainBody
		if f := observe(t, plainZone(), text); f.Result != string(test.want) {
			t.Errorf("%s: %s, %s", test.name, f.Result, f.Reason)
		}
	}
	// The older signature below is what h=dkim-signature means.
	old := signSimple(edKey, plainTags, fromField, plainBody)
	text := signSimple(edKey, strings.Replace(plainTags, "h=from", "h=from:dkim-signature:dkim-signature", 1), fromField+old, plainBody) + old + fromField + "\r\n" + plainBody
	if f := observe(t, plainZone(), text); !slices.Equal(f.Results, []string{"pass", "pass"}) {
		t.Errorf("signed signature: %q", f.Results)
	}
}

func TestMessageWithoutFrom(t *testing.T) {
	if f := observe(t, plainZone(), signSimple(edKey, plainTags, "", plainBody)+"\r\n"+plainBody); f.Result != "permerror" {
		t.Errorf("%s, %s", f.Result, f.Reason)
	}
}

func TestMessageWithoutBody(t *testing.T) {
	header := signSimple(edKey, plainTags, fromField, "\r\n") + fromField
	for _, end := range []string{"", "\r\n", "\r\n\r\n", "\r\n\r\n\r\n"} {
		if f := observe(t, plainZone(), header+end); f.Result != "pass" {
			t.Errorf("header and %q: %s, %s", end, f.Result, f.Reason)
		}
	}
}

func TestBareLineEndsNeverPass(t *testing.T) {
	for _, body := range []string{"a\nb\r\n", "a\rb\r\n", "a\r\n\n", "a\r\r\n", "a\r", "\n", "\r", "a\r\nb\n"} {
		text := signSimple(edKey, plainTags, fromField, body) + fromField + "\r\n" + body
		if f := observe(t, plainZone(), text); f.Result != "permerror" || f.Reason != "the message has a bare CR or LF" || len(f.Domains) > 0 {
			t.Errorf("body %q: %s, %s", body, f.Result, f.Reason)
		}
	}
	for _, field := range []string{"X: a\nb\r\n", "X: a\rb\r\n", "X: a\n b\r\n"} {
		text := signSimple(edKey, plainTags, fromField, plainBody) + field + fromField + "\r\n" + plainBody
		if f := observe(t, plainZone(), text); f.Result != "permerror" || f.Signatures != 1 {
			t.Errorf("field %q: %s, %s", field, f.Result, f.Reason)
		}
	}
}
