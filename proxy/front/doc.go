// Package front is what the front ends have in common: the doors through which connections come, names for sessions, room for
// messages within the bounds of the whole process, and what is wrong with a message whatever way it came.
package front
