// Package load is the client side of the benchmark: many SMTP sessions from one thread, each playing the same script,
// for a given time.
//
// A [Script] is data: what is sent and which replies must come. Any other reply is an error and is reported with its
// text; a measurement that met one is worth nothing. Clients have many source addresses, since a proxy keeps count of
// each, and since thousands of connections from one address slow each other down in the kernel.
package load
