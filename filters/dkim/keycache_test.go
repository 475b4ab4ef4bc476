package dkim

import (
	"fmt"
	"reflect"
	"sync"
	"testing"
)

func TestCachedKeysAreTheSame(t *testing.T) {
	cache := &keyCache{}
	for round := range 3 {
		for _, record := range []string{edText, rsaText(&rsaKey().PublicKey), "v=DKIM1; p=", "p=!", "v=DKIM1; t=y:s; " + edText[len("v=DKIM1; "):]} {
			for _, keyType := range []string{"rsa", "ed25519"} {
				s := &signature{keyType: keyType}
				want, wantFailed := readKey(record, s)
				got, gotFailed := cache.read(record, s)
				if !reflect.DeepEqual(got, want) || gotFailed != wantFailed {
					t.Errorf("round %d, %s, %q: %+v, %v; want %+v, %v", round, keyType, record, got, gotFailed, want, wantFailed)
				}
			}
		}
	}
	if len(cache.late) != 10 {
		t.Errorf("%d keys are kept", len(cache.late))
	}
}

func TestKeyCacheIsBounded(t *testing.T) {
	cache := &keyCache{}
	s := &signature{keyType: "rsa"}
	var readers sync.WaitGroup
	for part := range 4 {
		readers.Go(func() {
			for i := range maxCached {
				cache.read(fmt.Sprintf("v=DKIM1; n=%d; p=", part*maxCached+i), s)
			}
		})
	}
	readers.Wait()
	cache.read(string(make([]byte, maxRecord+1)), s)
	if len(cache.late) > maxCached || len(cache.before) > maxCached {
		t.Errorf("%d and %d keys are kept", len(cache.late), len(cache.before))
	}
	kept := "v=DKIM1; n=kept; p="
	cache.read(kept, s)
	for i := range maxCached - 1 {
		cache.read(fmt.Sprint(i), s)
	}
	if _, late := cache.late[cachedRecord{"rsa", kept}]; !late {
		if _, before := cache.before[cachedRecord{"rsa", kept}]; !before {
			t.Error("a key is forgotten although there is room")
		}
	}
}
