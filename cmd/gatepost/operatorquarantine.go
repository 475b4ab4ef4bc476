package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gatepost/proxy/admin"
	"gatepost/proxy/quarantine"
)

// Quarantine implements admin.House.
func (o operator) Quarantine() admin.Quarantine { return keptMessages(o) }

// keptMessages is the quarantine as the admin pages see and change it.
type keptMessages struct{ h *house }

// List implements admin.Quarantine.
func (k keptMessages) List(ctx context.Context, yield func(admin.QuarantinedMessage) bool) error {
	for query := (quarantine.Query{Limit: quarantine.MaxPage}); ; {
		page, err := k.h.quarantine.List(ctx, query)
		if err != nil {
			return err
		}
		for i := range page.Items {
			s := &page.Items[i]
			more := yield(admin.QuarantinedMessage{ID: s.ID, Time: s.Kept, Expires: s.Expires, Expiring: s.Expiring, Client: s.Client, From: s.ReversePath, Recipients: s.Recipients,
				Waiting: s.Waiting, Subject: s.Subject, Rule: s.Rule, Size: s.Size, Copy: s.Copy, Problem: s.Problem})
			if !more {
				return nil
			}
		}
		if query.Before = page.Next; page.Next == "" {
			return nil
		}
	}
}

// Show implements admin.Quarantine.
func (k keptMessages) Show(ctx context.Context, id string) (m admin.QuarantinedMessage, header string, err error) {
	d, err := k.h.quarantine.Show(ctx, id)
	if err != nil {
		return m, "", notThere(err)
	}
	m = admin.QuarantinedMessage{ID: d.ID, Time: d.Kept, Expires: d.Expires, Client: d.Client.Address.Addr().String(), From: d.ReversePath, Recipients: []string{},
		Subject: d.Subject, Rule: d.Rule.Name, Size: d.Size, Copy: d.Copy}
	for _, r := range d.Recipients {
		if r.Released.IsZero() {
			m.Recipients = append(m.Recipients, r.Address)
		}
	}
	m.Waiting = len(m.Recipients)
	return m, d.Header, nil
}

// Release implements admin.Quarantine.
func (k keptMessages) Release(ctx context.Context, id string) (string, error) {
	o, err := k.h.releaseMessage(ctx, id, admin.Visitor(ctx))
	if o == nil {
		return "", notThere(err)
	}
	var told []string
	for _, r := range o.Recipients {
		what := "not delivered to"
		if r.Delivered {
			what = "delivered to"
		}
		told = append(told, fmt.Sprintf("%s <%s>: %s", what, r.Address, r.Reply))
	}
	if o.Reply != "" {
		told = append(told, fmt.Sprintf("The backend %s said: %s", o.Backend, o.Reply))
	}
	text := strings.Join(told, "\n")
	switch {
	case err != nil:
		return "", fmt.Errorf("%s\n%w", text, err)
	case o.Left > 0:
		return "", fmt.Errorf("%s\nIt stays in quarantine for %d", text, o.Left)
	}
	return text, nil
}

// Delete implements admin.Quarantine.
func (k keptMessages) Delete(ctx context.Context, id string) error {
	return notThere(k.h.deleteMessage(ctx, id, admin.Visitor(ctx)))
}

// notThere makes what the quarantine says of an unknown id what the pages know it by.
func notThere(err error) error {
	if errors.Is(err, quarantine.ErrUnknown) {
		return fmt.Errorf("%w: %w", admin.ErrNotFound, err)
	}
	return err
}
