package store

import (
	"testing"
	"time"

	"gatepost/filters"
)

func TestOperationsAreCounted(t *testing.T) {
	s := openTest(t, testConfig(t), filters.SystemClock{})
	ctx, keys := t.Context(), []string{"k"}
	must(s.Peek(ctx, "x", keys))(t)
	must(s.Attempt(ctx, "x", keys, filters.Terms{Window: time.Hour, Keep: time.Hour}))(t)
	must(s.Forget(ctx, "x", keys))(t)
	if err := s.Pass(ctx, "x", keys, time.Hour); err != nil {
		t.Error(err)
	}
	if err := s.Range(ctx, "x", "", func(string, filters.Mark) bool { return true }); err != nil {
		t.Error(err)
	}
	if _, err := s.Peek(ctx, "no\x00space", keys); err == nil {
		t.Error("a bad space was taken")
	}
	want := [operations]OperationStats{Peek: {2, 1}, Attempt: {1, 0}, Forget: {1, 0}, Pass: {1, 0}, Range: {1, 0}}
	if st := s.Stats(); st.Operations != want || st.Closed {
		t.Errorf("%+v", st)
	}
}
