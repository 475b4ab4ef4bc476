// Package epoll is the little of epoll(7) that the benchmark's sink and load generator need. Both are raw so that they
// cost less than what they measure: Go's net package would take more of the machine than the proxies do.
package epoll
