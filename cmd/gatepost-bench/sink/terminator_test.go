package sink

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// However a stream is cut into pieces, DATA ends where the first CRLF.CRLF does.
func TestEndOfDataIsFoundInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"\r", "\n", ".", "a", "\r\n", endOfData})).Draw(t, "stream"), "")
		want := strings.Index("\r\n"+stream, endOfData)
		if want >= 0 {
			want += len(endOfData) - len("\r\n")
		}

		var dot terminator
		dot.reset()
		got, rest := -1, stream
		for len(rest) > 0 && got < 0 {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			taken, complete := dot.find([]byte(rest[:n]))
			rest = rest[taken:]
			switch {
			case complete:
				got = len(stream) - len(rest)
			case taken != n:
				t.Fatalf("%d of %d bytes taken before the end", taken, n)
			}
		}
		if got != want {
			t.Fatalf("end found at %d, it is at %d of %q", got, want, stream)
		}
	})
}
