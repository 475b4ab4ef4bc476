// Package setup makes a first configuration: it looks at the mail server that is there (detect.go, and one file for each
// kind), at ports, resolver and certificates, writes a commented file (config.go), and says which lines the mail server
// needs, with the way back (Steps).
//
// It changes nothing by itself. The machine is a System, so that tests have machines of their own.
package setup
