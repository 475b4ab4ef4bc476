package filters

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Each row holds envelope senders of one stream.
var streams = map[string][]string{
	"plain":             {"alice@example.org", "Alice@EXAMPLE.org", "alice@example.org."},
	"plus tag":          {"bob@example.org", "bob+shop@example.org", "bob+news2026@example.org"},
	"mailman":           {"talk-bounces@lists.example.org", "talk-bounces+user=example.net@lists.example.org", "talk-bounces+other.name=mail.example.com@lists.example.org"},
	"ezmlm":             {"dev-return-1234-user=example.net@example.org", "dev-return-99-john-smith=example.com@example.org"},
	"mailing service":   {"bounces+1234567-ab12-user=example.net@em99.example.org", "bounces+7654321-cd34-someone=example.com@em99.example.org"},
	"verp with numbers": {"bounces-12345-user=example.org@mail.example.com", "bounces-7-other=example.net@mail.example.com"},
	"verp bare":         {"user=example.net__0-7k3jd9f@bnc.example.com", "someone.else=example.org__0-9dk3a@bnc.example.com"},
	"srs0": {"SRS0=HHh1=TT=example.org=alice@forward.example.net", "SRS0=xY+z=AB=example.org=alice@forward.example.net",
		"srs0+HHH=2A=example.org=alice@forward.example.net", "SRS0-q9=2B=example.org=Alice+tag@forward.example.net"},
	"srs1":                {"SRS1=H1=forward.example.net==H2=TT=example.org=alice@last.example.com", "SRS1+q7=forward.example.net=-zz=2B=example.org=alice@last.example.com"},
	"srs of verp":         {"SRS0=a1=T1=example.org=news-1-user=example.com@f.example.net", "SRS0=b2=T2=example.org=news-22-other=example.net@f.example.net"},
	"srs in a tag":        {"bounces+SRS=9cR4k=5R@example.org", "bounces+SRS=Tz8+q=7B@example.org"},
	"batv":                {"carol@example.org", "prvs=1234567890=carol@example.org", "prvs=0987abcdef=carol@example.org", "PRVS=4321abcdef=Carol@example.org", "prvs=carol/0123abcdef@example.org"},
	"msprvs1":             {"msprvs1=17123abcDEF=bounces-1234@example.org", "msprvs1=19999zzzYYY=bounces-777@example.org"},
	"btv1":                {"btv1==0123456789ab==dave@example.org", "btv1==ba9876543210==dave@example.org"},
	"uuid":                {"0102018a1b2c3d4e-5f607182-9304-4a5b-8c6d-7e8f90a1b2c3-000000@ses.example.com", "01020191aabbccdd-deadbeef-cafe-4bad-beef-feedfacecafe-000000@ses.example.com"},
	"hex":                 {"bounce-deadbeefcafe@example.org", "bounce-0123456789ab@example.org", "bounce-12ab34cd56ef@example.org"},
	"base64":              {"b-aGVsbG8gd29ybGQ@example.org", "b-Zm9vYmFyYmF6cXV4@example.org"},
	"dotted counter":      {"bounce-mc.us12_34567890.123456-abcdef1234@mail5.atl1.example.org", "bounce-mc.us7_1.999-0f0f0f0f0f@mail99.atl2.example.org"},
	"underscores":         {"bounce-123_HTML-45678-90123-1234-1@bounce.example.org", "bounce-9_HTML-1-2-3-4@bounce.example.org"},
	"listserv":            {"owner-news*user**example.net@lists.example.org", "owner-news*other.person**example.com@lists.example.org"},
	"numbered mailboxes":  {"noreply1@example.org", "noreply27@example.org"},
	"numbered sender":     {"return-20261122-001@example.org", "return-20261123-4711-2@example.org"},
	"rotating host":       {"root@web1.example.org", "root@web27.example.org"},
	"google groups":       {"team+bncBCAAABBBCCC@example.org", "team+bncBDXYZ123@example.org", "team@example.org"},
	"null":                {""},
	"no domain":           {"postmaster", "POSTMASTER"},
	"quoted":              {`"john smith"@example.org`},
	"constant token pair": {"AXyz123abc==_1101234567890_abc@in.example.org", "Bqqq999zzz==_2209876543210_xyz@in.example.org"},
}

func TestAStreamHasOneKey(t *testing.T) {
	owner := map[string]string{}
	for name, senders := range streams {
		want := FoldSender(senders[0])
		for _, s := range senders[1:] {
			if got := FoldSender(s); got != want {
				t.Errorf("%s: %s is %q, but %s is %q", name, s, got, senders[0], want)
			}
		}
		if other, taken := owner[want]; taken {
			t.Errorf("%s and %s have the same key %q", name, other, want)
		}
		owner[want] = name
	}
}

func TestPeopleAreKeptApart(t *testing.T) {
	owner := map[string]string{}
	for _, s := range []string{
		"alice@example.org", "bob@example.org", "carol.smith@example.org", "carol.jones@example.org", "j.smith@example.org", "JSmith@example.org",
		"McDonald@example.org", "info@example.org", "office@example.org", "newsletter@example.org", "news-weekly@example.org", "no-reply@example.org",
		"postmaster@example.org", "bounces@example.org", "anna-maria@example.org", "x@example.org", "hr@example.org", "jürgen@example.org",
		"root@example.org", "root@163.com", "root@126.com", "root@example.net", "christopher@example.org", "SRS0=a=b=example.org=alice@f.example.net",
		"SRS0=a=b=example.org=bob@f.example.net", "SRS0=a=b=example.com=bob@f.example.net", "prvs=0123456789=erin@example.org", "talk-bounces+u=example.net@example.org",
		"dev-bounces+u=example.net@example.org", "user12@example.org", "admin12@example.org",
	} {
		key := FoldSender(s)
		if other, taken := owner[key]; taken {
			t.Errorf("%s and %s are both %q", s, other, key)
		}
		owner[key] = s
	}
}

var anySender = rapid.OneOf(
	rapid.StringMatching(`[a-zA-Z0-9+=_.*/#-]{0,40}@[a-z0-9.-]{1,30}`),
	rapid.StringMatching(`(SRS0|srs1|SRS1|prvs|btv1|msprvs1)[=+-]{1,2}([a-zA-Z0-9]{1,6}[=/+-]{1,2}){0,5}[a-z]{0,5}@([a-z0-9]{1,5}\.){1,4}(org|co\.uk)`),
	rapid.String(),
)

func TestFoldingTwiceIsFoldingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySender.Draw(t, "sender")
		once := FoldSender(s)
		if twice := FoldSender(once); twice != once {
			t.Fatalf("%q became %q, then %q", s, once, twice)
		}
		if len(once) > len(s)+4*maxWrappers {
			t.Fatalf("%q grew to %q", s, once)
		}
	})
}

func TestDigitsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		local := rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9+=_.-]{0,40}`).Draw(t, "local")
		if lower := strings.ToLower(local); strings.HasPrefix(lower, "srs") || strings.HasPrefix(lower, "btv") || strings.HasPrefix(lower, "msprvs") {
			return // here a digit is part of a keyword
		}
		other := strings.Map(func(r rune) rune {
			if '0' <= r && r <= '9' {
				return '0' + rune(rapid.IntRange(0, 9).Draw(t, "digit"))
			}
			return r
		}, local)
		if a, b := FoldSender(local+"@example.org"), FoldSender(other+"@example.org"); a != b {
			t.Fatalf("%s is %q, but %s is %q", local, a, other, b)
		}
	})
}

func FuzzFold(f *testing.F) {
	for _, senders := range streams {
		for _, s := range senders {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		once := FoldSender(s)
		if twice := FoldSender(once); twice != once {
			t.Errorf("%q became %q, then %q", s, once, twice)
		}
	})
}

func BenchmarkFold(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		FoldSender("bounces-12345-user=example.org@mail.example.com")
	}
}
