//go:build !linux

package notify

import "time"

// monotonic is of interest to systemd alone, which is on Linux alone.
func monotonic() time.Duration { return 0 }
