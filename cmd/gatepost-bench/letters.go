package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/emersion/go-msgauth/dkim"
)

// letters are the messages that are sent, and the record that proves their signatures.
type letters struct {
	small, smallSigned []byte // 4 KiB before the signature
	large, largeSigned []byte // 1 MiB before the signature
	keyRecord          string // TXT of keyName
}

const (
	selector = "bench"
	keyName  = selector + "._domainkey.example.net."
)

const header = "Received: from [198.51.100.7] (unknown [198.51.100.7])\r\n" +
	"\tby client.example.net (Example) with ESMTPSA id 0123456789\r\n" +
	"\tfor <user@example.org>; Mon, 05 Jan 2026 10:00:00 +0000\r\n" +
	"Message-ID: <0123456789@client.example.net>\r\n" +
	"Date: Mon, 05 Jan 2026 10:00:00 +0000\r\n" +
	"From: Bench <" + sender + ">\r\n" +
	"To: <" + recipient + ">\r\n" +
	"Subject: A message of a certain size\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Type: text/plain; charset=us-ascii\r\n" +
	"\r\n"

// writeLetters makes a key and signs once: it is the check of a signature that is measured.
func writeLetters() (*letters, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	l := &letters{
		small: letter(4 << 10), large: letter(1 << 20),
		keyRecord: "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public),
	}
	if l.smallSigned, err = sign(l.small, key); err != nil {
		return nil, err
	}
	l.largeSigned, err = sign(l.large, key)
	return l, err
}

// letter is a message of exactly size bytes.
func letter(size int) []byte {
	const line = "The quick brown fox jumps over the lazy dog, and does so again and again.\r\n"
	body := strings.Repeat(line, (size-len(header))/len(line))
	filler := size - len(header) - len(body)
	if filler < len("\r\n") {
		body, filler = body[len(line):], filler+len(line)
	}
	return []byte(header + body + strings.Repeat("x", filler-len("\r\n")) + "\r\n")
}

func sign(message []byte, key crypto.Signer) ([]byte, error) {
	var signed bytes.Buffer
	err := dkim.Sign(&signed, bytes.NewReader(message), &dkim.SignOptions{
		Domain: "example.net", Selector: selector, Signer: key, Hash: crypto.SHA256,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed,
		BodyCanonicalization:   dkim.CanonicalizationRelaxed,
		HeaderKeys:             []string{"From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"},
	})
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return signed.Bytes(), nil
}
