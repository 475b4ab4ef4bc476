package all

import (
	"context"
	"hash/maphash"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

const zone = `
9.2.0.192.in-addr.arpa. PTR client.example.com.
client.example.com. A 192.0.2.9
example.com. MX 10 mx.example.com.
example.com. TXT "v=spf1 a:client.example.com include:other.example.com -all"
other.example.com. TXT "v=spf1 ip4:198.51.100.0/24 mx -all"
other.example.com. MX 10 mx.example.com.
mx.example.com. A 198.51.100.7
_dmarc.example.com. TXT "v=DMARC1; p=reject"
one._domainkey.example.com. TXT "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
`

const message = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com; s=one; h=from;\r\n" +
	" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA\r\n" +
	"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com; s=two; h=from;\r\n" +
	" bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA\r\n" +
	"From: a@example.com\r\n\r\nHello\r\n"

// partly is a DNS of which a part is at hand. An attempt that comes to the rest must not get further.
type partly struct {
	*filtertest.Zone
	t    *testing.T
	seed maphash.Seed
	part uint64 // in 256
}

func (p *partly) miss(ctx context.Context, question string) bool {
	a := filters.AttemptOf(ctx)
	if a == nil {
		return false
	}
	if maphash.String(p.seed, question)%256 >= p.part {
		a.Miss()
	}
	return a.Missed()
}

func (p *partly) LookupA(ctx context.Context, name string) ([]netip.Addr, error) {
	if p.miss(ctx, "A "+name) {
		return nil, filters.ErrNotAtHand
	}
	return p.Zone.LookupA(ctx, name)
}

func (p *partly) LookupAAAA(ctx context.Context, name string) ([]netip.Addr, error) {
	if p.miss(ctx, "AAAA "+name) {
		return nil, filters.ErrNotAtHand
	}
	return p.Zone.LookupAAAA(ctx, name)
}

func (p *partly) LookupTXT(ctx context.Context, name string) ([]string, error) {
	if p.miss(ctx, "TXT "+name) {
		return nil, filters.ErrNotAtHand
	}
	return p.Zone.LookupTXT(ctx, name)
}

func (p *partly) LookupMX(ctx context.Context, name string) ([]filters.MX, error) {
	if p.miss(ctx, "MX "+name) {
		return nil, filters.ErrNotAtHand
	}
	return p.Zone.LookupMX(ctx, name)
}

func (p *partly) LookupPTR(ctx context.Context, ip netip.Addr) ([]string, error) {
	if p.miss(ctx, "PTR "+ip.String()) {
		return nil, filters.ErrNotAtHand
	}
	return p.Zone.LookupPTR(ctx, ip)
}

// A repeatable observation finds the same where it is attempted, as long as nothing is missing, and says so where
// something is.
func TestAttemptsFindTheSame(t *testing.T) {
	dns := &partly{Zone: filtertest.MustParseZone(zone), t: t}
	for _, spec := range Specs() {
		filter, err := spec.Build(spec.NewConfig(), filtertest.NewEnv(dns))
		if err != nil || filter == nil {
			continue
		}
		for _, o := range spec.Observations {
			if !o.Repeatable {
				continue
			}
			found, missed := 0, 0
			want, wantErr := o.Observe(t.Context(), filter, view(t, o.Stage))
			for i := range 256 {
				dns.seed, dns.part = maphash.MakeSeed(), uint64(i+1)
				var a filters.Attempt
				got, err := o.Observe(&a, filter, view(t, o.Stage))
				switch {
				case a.Missed():
					missed++
				case (err == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want):
					t.Fatalf("%s at %v: attempted %+v, %v; else %+v, %v", spec.Name, o.Stage, got, err, want, wantErr)
				default:
					found++
				}
			}
			t.Logf("%s at %v: found %d, missed %d", spec.Name, o.Stage, found, missed)
			if found == 0 {
				t.Errorf("%s at %v: no attempt came to anything", spec.Name, o.Stage)
			}
		}
	}
}

// view is what there is to see at a stage.
func view(t *testing.T, stage filters.Stage) filters.View {
	v := filtertest.Mailed("192.0.2.9", "client.example.com", "s@example.com")
	v.Facts = filtertest.Facts{
		"rdns.name": "client.example.com", "spf.result": "pass", "spf.authenticated": "example.com", "dkim.result": "fail",
		"dmarc.domain": "example.com", "dmarc.record_domain": "example.com", "dmarc.record": "v=DMARC1; p=reject",
		"dmarc.organizational": "example.com", "dmarc.policy": "reject",
	}
	if stage == filters.AtMessage {
		v.Message = filters.NewMessage(1<<20, nil)
		if _, err := v.Message.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
		v.Message.Complete()
		t.Cleanup(v.Message.Release)
	}
	return v
}

// Every observation that is not inline can be attempted, but for talks with other programs.
func TestRepeatable(t *testing.T) {
	var names []string
	for _, spec := range Specs() {
		for _, o := range spec.Observations {
			if !o.Repeatable && !o.Inline && spec.Name != "milter" {
				names = append(names, spec.Name)
			}
		}
	}
	if got := strings.Join(names, " "); got != "" {
		t.Errorf("neither inline nor repeatable: %s", got)
	}
}
