package demo

// configuration is the demo's own: listen address, backend, resolver and state are filled in. The first rule enforces
// what the default rules behind it only observe.
const configuration = `hostname: mx.example.org
domains: [example.org]
contact: https://example.org/postmaster
listen:
  - address: %q
    xclient_from: [127.0.0.1]        # so that the demo's clients can be anybody
backend: {address: %q}
resolver: {servers: [%q]}
store: {path: %q}
log: {level: warn}
admin: off
filters:
  earlytalker: {pause: 300ms}
  dnsbl:
    zones:
      - zone: bl.demo.test
        codes: {127.0.0.2: 4}
  ratelimit:
    limits:
      - {name: three-a-minute, count: messages, per: client, rate: 3/1m, burst: 3}
rules:
  - name: forged-enforced
    when: dmarc.result == "fail" and dmarc.policy == "reject"
    then: reject
    reply: 550 5.7.26 The message fails the DMARC policy of {dmarc.domain}
  - include: default
`

// zoneText is the DNS of the demo. The public key of friends.test is filled in.
const zoneText = `# The block list: its test points (RFC 5782, 5), and one spammer.
2.0.0.127.bl.demo.test            A    127.0.0.2
66.113.0.203.bl.demo.test         A    127.0.0.2

# The demo's own machine.
127.0.0.1                         PTR  localhost.demo.test
localhost.demo.test               A    127.0.0.1

# A well-kept sender: confirmed name, SPF, DKIM, DMARC.
192.0.2.10                        PTR  mail.friends.test
mail.friends.test                 A    192.0.2.10
friends.test                      TXT  v=spf1 ip4:192.0.2.10 -all
friends.test                      MX   10 mail.friends.test
demo._domainkey.friends.test      TXT  v=DKIM1; k=ed25519; p=%s
_dmarc.friends.test               TXT  v=DMARC1; p=reject

# A sender without SPF, whose host has no name in the reverse DNS: suspicious enough to be greylisted.
host.newcomer.test                A    198.51.100.20
newcomer.test                     MX   10 host.newcomer.test

# A forger: a proper host with SPF for its own domain, that writes bank.test on its letters.
198.51.100.66                     PTR  mail.forger.test
mail.forger.test                  A    198.51.100.66
forger.test                       TXT  v=spf1 ip4:198.51.100.66 -all
bank.test                         TXT  v=spf1 -all
_dmarc.bank.test                  TXT  v=DMARC1; p=reject

# The spammer, and one who is busy.
203.0.113.66                      PTR  dsl-66.spam.test
dsl-66.spam.test                  A    203.0.113.66
203.0.113.99                      PTR  busy.test
busy.test                         A    203.0.113.99
busy.test                         TXT  v=spf1 ip4:203.0.113.99 -all
`
