package group

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"markread/consumer/printable"
	"markread/imclient"
	"markread/worker/console/overview"
)

const (
	detailsEvery = 4 * time.Second  // of one worker, at most
	refusedFor   = 30 * time.Second // after a failure: it may be because of the token
	oldAfter     = 15               // seconds: what an older event waits for is of interest
	maxDetail    = 300
	maxHolds     = 20
)

// readDetails reads from a worker on this machine what its metrics don't have, if something is
// wrong there: see [overview.Details]. It needs the token, so workers elsewhere are not asked.
func (g *Group) readDetails(ctx context.Context, p *peer) {
	now := time.Now()
	if !p.troubled() || !imclient.IsLoopback(p.addr) {
		p.details = nil
		return
	}
	if now.Sub(p.asked) < detailsEvery {
		return
	}
	p.asked = now
	// of the history, which is not needed, the latest seconds
	path := fmt.Sprintf("/api/overview?after=%d", now.Add(-20*time.Second).Unix())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		return
	}
	if !g.Token.IsZero() {
		request.Header.Set("Authorization", "Bearer "+g.Token.Reveal())
	}
	var found struct {
		Workers    []struct{ Held []overview.Hold }
		Partitions []overview.Partition
	}
	if err := g.send(request, &found); err != nil || len(found.Workers) != 1 {
		// The row shows less; whether the worker responds is known from its metrics.
		p.details, p.asked = nil, now.Add(refusedFor-detailsEvery)
		return
	}
	held, partitions := found.Workers[0].Held, found.Partitions
	d := &overview.Details{Holds: held[:min(len(held), maxHolds)],
		Partitions: partitions[:min(len(partitions), overview.MaxPartitions)]}
	for i := range d.Holds {
		h := &d.Holds[i]
		clean(&h.Detail, &h.Code, &h.Do, &h.By, &h.Why)
	}
	for i := range d.Partitions {
		if o := d.Partitions[i].Oldest; o != nil {
			clean(&o.WaitsFor, &o.Code, &o.Message, &o.Report, &o.Peer)
		}
		if u := d.Partitions[i].Unreadable; u != nil {
			clean(&u.Reason, &u.Do)
		}
	}
	p.details = d
}

// clean makes texts of a worker short lines.
func clean(texts ...*string) {
	for _, text := range texts {
		*text = printable.Truncate(printable.Line(*text), maxDetail)
	}
}

// troubled reports whether the latest metrics show a hold, an old event or a partition that can't
// be read.
func (p *peer) troubled() bool {
	if p.sample == nil {
		return false
	}
	for _, part := range p.sample.Partitions {
		if part.Unreadable || part.Oldest >= oldAfter {
			return true
		}
	}
	return len(p.sample.Held) > 0
}
