// Package doctor looks at everything that a configuration depends on, and says what is in order and what is not, each with
// what was seen and what to do about it: DNS servers, block lists, backends, certificates and names, limits, clock, folders,
// ports, and who may reach the admin pages.
//
// Examine starts all checks at once (checks in doctor.go); each is a file of its own and returns its findings. Whoever uses
// the network is bounded by the context. Nothing is changed on the machine, and no message is sent anywhere: the relay check
// ends after RCPT.
//
// What can only be asked of the computer goes through machine, of which tests have another.
package doctor
