// Package front is what the front ends have in common, the SMTP proxy and the milter: names for sessions, room for
// messages within the bounds of the whole process, and what is wrong with a message whatever way it came.
package front
