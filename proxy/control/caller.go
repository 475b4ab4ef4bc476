package control

import (
	"context"
	"os/user"
)

type callerKey struct{}

// Caller names the UNIX user on whose behalf a handler runs, as the kernel told: by name, or by number where the system
// has no name for it. It is empty where that is not known.
func Caller(ctx context.Context) string {
	id, _ := ctx.Value(callerKey{}).(string)
	if id == "" {
		return ""
	}
	if u, err := user.LookupId(id); err == nil && u.Username != "" {
		return u.Username
	}
	return id
}
