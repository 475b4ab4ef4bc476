// Package filtertest holds what a filter needs instead of the world: a [Zone] that answers as the DNS, a [Clock] that
// moves when it is told to, a [Store] in memory, and [Facts] of other filters. Tests, the demo and trial runs over one
// message use it; nothing here opens a socket or a file, and nothing here belongs into production.
package filtertest
