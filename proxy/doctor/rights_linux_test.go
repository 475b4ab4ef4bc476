package doctor

import "testing"

func TestParseRights(t *testing.T) {
	const status = "Name:\tgatepost\nUid:\t0\t990\t990\t990\nCapEff:\t0000000000002000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
	got, err := parseRights(status)
	if want := (rights{user: 990, capabilities: 1 << 13, noNewPrivileges: true, seccomp: true}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "Uid:\n", "Uid:\tx\n", "Uid:\t1\t1\t1\t1\nCapEff:\tzz\n", status[:40]} {
		if r, err := parseRights(bad); err == nil {
			t.Errorf("%q is %+v", bad, r)
		}
	}
}
