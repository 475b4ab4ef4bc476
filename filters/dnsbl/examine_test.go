package dnsbl

import (
	"strings"
	"testing"

	"gatepost/filters/filtertest"
)

func TestExamine(t *testing.T) {
	zone, err := filtertest.ParseZone([]byte(testPointsOfAll + `
*.all.test    A 127.0.0.2
*.closed.test A 127.255.255.254
2.0.0.127.mute.test TIMEOUT
`))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Zones: []Zone{block, v4only, names, {Zone: "all.test", IPv6: "off"}, {Zone: "closed.test", IPv6: "off"},
		{Zone: "gone.test", IPv6: "off"}, {Zone: "mute.test", IPv6: "off"}, {Zone: "free.test", IPv6: "off", Test: "off"}}}
	var got []string
	for _, h := range Examine(t.Context(), c, filtertest.NewEnv(zone)) {
		word := "sane"
		switch {
		case h.Reason != "":
			word, _, _ = strings.Cut(h.Reason, ":")
		case h.Unused:
			word = "unused"
		case !h.Answered:
			word = "no answer"
		case !h.Tested:
			word = "not tested"
		}
		got = append(got, h.List+" "+h.About+" "+word)
	}
	want := `bl.test IPv4 sane
bl.test IPv6 sane
v4.test IPv4 sane
v4.test IPv6 unused
names.test domains sane
all.test IPv4 it lists what no list may list
closed.test IPv4 it refuses to answer our resolver (127.255.255.x)
gone.test IPv4 it does not list its test point
mute.test IPv4 no answer
free.test IPv4 not tested`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}
