package filtertest

import "testing"

func TestFacts(t *testing.T) {
	f := Facts{"spf.result": "pass", "rdns.names": []string{"a"}, "rdns.confirmed": true, "dnsbl.score": 4.0}
	if v, ok := f.Text("spf.result"); !ok || v != "pass" {
		t.Errorf("text: %v, %v", v, ok)
	}
	if v, ok := f.List("rdns.names"); !ok || len(v) != 1 {
		t.Errorf("list: %v, %v", v, ok)
	}
	if v, ok := f.Bool("rdns.confirmed"); !ok || !v {
		t.Errorf("bool: %v, %v", v, ok)
	}
	if v, ok := f.Number("dnsbl.score"); !ok || v != 4 {
		t.Errorf("number: %v, %v", v, ok)
	}
	if _, ok := f.Text("spf.domain"); ok {
		t.Error("a missing fact is there")
	}
	defer func() {
		if recover() == nil {
			t.Error("a fact of another type did not panic")
		}
	}()
	f.Number("spf.result")
}
