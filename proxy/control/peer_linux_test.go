package control

import "testing"

func TestWhoMayCommand(t *testing.T) {
	if allowed(0, 1000) != nil || allowed(1000, 1000) != nil || allowed(1001, 1000) == nil || allowed(65534, 0) == nil {
		t.Error("only root and the own user may")
	}
}
