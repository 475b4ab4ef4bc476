//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "gatepost-bench: needs Linux, for epoll and /proc")
	os.Exit(1)
}
