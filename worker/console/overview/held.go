package overview

import (
	"cmp"
	"maps"
	"slices"
)

// urgency orders the reasons of holds: the first one is shown.
var urgency = []string{"credentials", "outage", "dead-letter", "membership", "rejections"}

// held returns the sentence of the most urgent hold.
func (b *builder) held(v *view) (Sentence, bool) {
	byReason := map[string][]Hold{}
	workers := map[string]float64{}
	waiting := map[string]float64{}
	code, firstOf := map[string]string{}, map[string]string{} // firstOf: the address of a worker
	responding := 0.0
	for _, m := range v.members {
		if m.now == nil {
			continue
		}
		responding++
		counted := map[string]bool{}
		for _, h := range m.held {
			if h.Reason == "quota" && b.scope == "group" && known(deref(v.now.Share)) > 0 {
				continue // a spare worker
			}
			byReason[h.Reason] = append(byReason[h.Reason], h)
			firstOf[h.Reason] = cmp.Or(firstOf[h.Reason], m.Address)
			for i, lane := range []string{"live", "backfill"} {
				if h.Lane != lane && h.Lane != "all" && h.Lane != "" || counted[h.Reason+lane] {
					continue
				}
				counted[h.Reason+lane] = true
				waiting[h.Reason] += known(m.now.Lanes[i].Events)
			}
			code[h.Reason] = cmp.Or(h.Code, code[h.Reason], m.codeOf(h))
			if !counted[h.Reason] {
				counted[h.Reason] = true
				workers[h.Reason]++
			}
		}
	}
	if len(byReason) == 0 {
		return Sentence{}, false
	}
	rank := func(reason string) int {
		if i := slices.Index(urgency, reason); i >= 0 {
			return i
		}
		return len(urgency)
	}
	reason := slices.MinFunc(slices.Sorted(maps.Keys(byReason)), func(x, y string) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(workers[y], workers[x]),
			cmp.Compare(x, y))
	})
	severity := bad
	if slices.Contains([]string{"paused", "throttled", "quota"}, reason) {
		severity = warn
	}
	holds := byReason[reason]
	h := slices.MinFunc(holds, func(x, y Hold) int { return x.Since.Compare(y.Since) })
	lane := h.Lane
	for _, other := range holds {
		if other.Lane != lane {
			lane = "all"
		}
		if n := other.NextProbeAt; n != nil && (h.NextProbeAt == nil || n.Before(*h.NextProbeAt)) {
			h.NextProbeAt = n
		}
	}
	params := holdParams(reason, lane)
	params["meaning_key"], params["do_key"] = "hold."+reason+".meaning", "hold."+reason+".do"
	params["since"], params["next"] = timeOf(h.Since), h.NextProbeAt
	params["detail"], params["code"], params["by"], params["why"] = h.Detail, code[reason], h.By,
		h.Why
	params["workers"], params["of"], params["waiting"] = workers[reason], responding,
		waiting[reason]
	lag := v.lag(lane)
	if lag != nil { // it is some seconds old: a group's is read from Kafka
		lag = opt(max(*lag, waiting[reason]))
	}
	params["lag"], params["dead_lettered"] = lag, b.deadLettered()
	params["kept_key"], params["worker"] = "sentence.held.kept", ""
	if reason == "rejections" {
		params["kept_key"] = "sentence.held.rejected"
	}
	if b.scope == "group" && h.Detail == "" {
		params["worker"] = firstOf[reason]
	}
	return Sentence{"held", severity, params}, true
}

// lag returns how many events the partitions of a lane have beyond the committed offsets: those in
// memory are among them. nil: not known.
func (v *view) lag(lane string) *float64 {
	var sum total
	for _, p := range v.partitions {
		if p.Lag != nil && (p.Lane == lane || lane == "all" || lane == "") {
			sum.add(*p.Lag)
		}
	}
	return opt(sum.value())
}

// resultOf is the result of the calls that cause a hold, whose latest code explains it.
var resultOf = map[string]string{"outage": "transient", "credentials": "held",
	"throttled": "throttled", "rejections": "rejected"}
