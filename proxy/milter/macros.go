package milter

import (
	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
)

// macro is one that we read.
type macro uint8

const (
	queueID macro = iota
	product
	daemonName
	clientAddr
	clientName
	clientPort
	clientResolve
	protocol
	tlsVersion
	tlsCipher
	certSubject
	certVerified
	authUser
	rcptMailer
	rcptHost
	rcptAddr
	macroCount
)

// macroNames are the names on the wire.
var macroNames = [macroCount]string{
	queueID: "i", product: "v", daemonName: "{daemon_name}", clientAddr: "{client_addr}", clientName: "{client_name}",
	clientPort: "{client_port}", clientResolve: "{client_resolve}", protocol: "r", tlsVersion: "{tls_version}",
	tlsCipher: "{cipher}", certSubject: "{cert_subject}", certVerified: "{verify}", authUser: "{auth_authen}",
	rcptMailer: "{rcpt_mailer}", rcptHost: "{rcpt_host}", rcptAddr: "{rcpt_addr}",
}

var macroOf = func() map[string]macro {
	names := make(map[string]macro, macroCount)
	for m, name := range macroNames {
		names[name] = macro(m)
	}
	return names
}()

// wanted is what we ask for. The envelope's paths need no macros, and what EOM is told was told before, but for the name
// of the message: Postfix makes it at the first recipient, sendmail at MAIL.
var wanted = []wire.MacroRequest{
	request(milter.StageConnect, product, daemonName, clientAddr, clientName, clientPort, clientResolve),
	request(milter.StageHelo, protocol, tlsVersion, tlsCipher, certSubject, certVerified),
	request(milter.StageMailFrom, queueID, protocol, authUser, tlsVersion, tlsCipher, certSubject, certVerified),
	request(milter.StageRcptTo, queueID, rcptMailer, rcptHost, rcptAddr),
	request(milter.StageData, queueID),
	request(milter.StageEOM, queueID),
}

func request(stage milter.Stage, macros ...macro) wire.MacroRequest {
	r := wire.MacroRequest{Stage: stage}
	for _, m := range macros {
		r.Names = append(r.Names, macroNames[m])
	}
	return r
}

// macroStage is a command that macros come with, in the order of the dialogue.
type macroStage uint8

const (
	withConnect macroStage = iota
	withHelo
	withMail
	withRcpt
	withData
	withMessage
	macroStages
)

func macroStageOf(command milter.Code) macroStage {
	switch command {
	case milter.CodeConn:
		return withConnect
	case milter.CodeHelo:
		return withHelo
	case milter.CodeMail:
		return withMail
	case milter.CodeRcpt:
		return withRcpt
	case milter.CodeData:
		return withData
	}
	return withMessage
}

// maxMacro bounds a value. Names of users and subjects of certificates are the longest.
const maxMacro = 1024

// macros are the values that came with each command. Those of a command replace what came with the same one before, and
// nothing else: the client's address is told once, at CONNECT.
type macros [macroStages][macroCount]string

// take reads a packet.
func (m *macros) take(data []byte) {
	command, pairs := wire.Macros(data)
	values := &m[macroStageOf(command)]
	var told [macroCount]bool
	for name, value := range pairs {
		which, known := macroOf[string(name)]
		if !known || len(value) > maxMacro {
			continue
		}
		told[which] = true
		if values[which] != string(value) { // mostly it is what it was: no allocation
			values[which] = string(value)
		}
	}
	for which := range values {
		if !told[which] {
			values[which] = ""
		}
	}
}

// get returns the latest value.
func (m *macros) get(which macro) string {
	for stage := macroStages; stage > 0; stage-- {
		if value := m[stage-1][which]; value != "" {
			return value
		}
	}
	return ""
}

// forget drops what came with a command and all behind it.
func (m *macros) forget(from macroStage) { clear(m[from:]) }
