package sample

import (
	"math"
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// decoders decode one series each, by the name of its metric.
var decoders = map[string]func(*decoder, labels, *dto.Metric){
	"markread_build_info": func(d *decoder, l labels, _ *dto.Metric) {
		d.Version, d.Commit = l.text("version", maxLabel), l.text("commit", maxLabel)
	},
	"process_start_time_seconds": func(d *decoder, _ labels, m *dto.Metric) {
		d.Started = moment(m)
	},
	"markread_ready": func(d *decoder, _ labels, m *dto.Metric) {
		d.Ready = raw(m) == 1
	},
	"markread_quota_rate":      number(func(m *Member) *float64 { return &m.Rate }),
	"markread_quota_share":     number(func(m *Member) *float64 { return &m.Share }),
	"markread_quota_limit":     number(func(m *Member) *float64 { return &m.Limit }),
	"markread_calls_in_flight": number(func(m *Member) *float64 { return &m.InFlight }),
	"markread_max_pending":     number(func(m *Member) *float64 { return &m.MaxPending }),
	"markread_assigned_partitions": number(
		func(m *Member) *float64 { return &m.Assigned }),
	"markread_group_partitions": number(func(m *Member) *float64 { return &m.GroupPartitions }),
	"markread_generations_total": number(
		func(m *Member) *float64 { return &m.Generations }),
	"markread_last_success_timestamp_seconds": func(d *decoder, _ labels, m *dto.Metric) {
		d.LastSuccess = moment(m)
	},
	"markread_calls_total": func(d *decoder, l labels, m *dto.Metric) {
		n, result := count(m), l.text("result", maxLabel)
		if i := slices.Index(Results[:], result); i >= 0 {
			add(&d.Calls[i], n)
			addTo(d.CallCodes, Code{result, l.text("code", maxLabel)}, n, maxCodes)
		}
	},
	"markread_dead_letters_total": func(d *decoder, l labels, m *dto.Metric) {
		addTo(d.Letters, Code{l.text("class", maxLabel), l.text("code", maxLabel)}, count(m),
			maxCodes)
	},
	"markread_events_lost_total": func(d *decoder, l labels, m *dto.Metric) {
		addTo(d.Lost, l.text("topic", maxTopic), count(m), maxTopics)
	},
	"markread_commit_failures_total": func(d *decoder, _ labels, m *dto.Metric) {
		add(&d.CommitFailures, count(m))
	},
	"markread_topic_info": func(d *decoder, l labels, _ *dto.Metric) {
		if i, ok := l.lane(); ok {
			d.Lanes[i].Topic = l.text("topic", maxTopic)
		}
	},
	"markread_events_received_total": laneNumber(func(l *Lane) *float64 { return &l.Received }),
	"markread_events_returned_total": laneNumber(func(l *Lane) *float64 { return &l.Returned }),
	"markread_backlog_events":        laneNumber(func(l *Lane) *float64 { return &l.Events }),
	"markread_backlog_conversations": laneNumber(
		func(l *Lane) *float64 { return &l.Conversations }),
	"markread_fetching_paused": func(d *decoder, l labels, m *dto.Metric) {
		if i, ok := l.lane(); ok {
			d.Lanes[i].Paused = raw(m) == 1
		}
	},
	"markread_events_total": func(d *decoder, l labels, m *dto.Metric) {
		i, ok := l.lane()
		if outcome := slices.Index(Outcomes[:], l.get("outcome")); ok && outcome >= 0 {
			d.Lanes[i].Finished[outcome] = count(m)
		}
	},
	"markread_event_age_seconds": func(d *decoder, l labels, m *dto.Metric) {
		if i, ok := l.lane(); ok && m.Histogram != nil {
			d.Lanes[i].Ages = ages(m.Histogram)
		}
	},
	"markread_held": func(d *decoder, l labels, m *dto.Metric) {
		if reason := l.text("reason", maxLabel); reason != "" && raw(m) == 1 &&
			len(d.holds) < maxHeld {
			d.holds = append(d.holds, Held{Reason: reason, Lane: "all"})
		}
	},
	"markread_hold_since_timestamp_seconds": func(d *decoder, l labels, m *dto.Metric) {
		h := Held{l.text("reason", maxLabel), l.text("lane", maxLabel), moment(m)}
		if h.Reason != "" && !h.Since.IsZero() && len(d.Held) < maxHeld {
			d.Held = append(d.Held, h)
		}
	},
	"markread_partition_lag": partitionNumber(func(p *Partition) *float64 { return &p.Lag }),
	"markread_partition_oldest_unfinished_seconds": partitionNumber(
		func(p *Partition) *float64 { return &p.Oldest }),
	"markread_partition_unreadable": func(d *decoder, l labels, m *dto.Metric) {
		if p := d.partition(l); p != nil {
			p.Unreadable = raw(m) == 1
		}
	},
	"markread_retention_left_seconds": func(d *decoder, l labels, m *dto.Metric) {
		p := d.partition(l)
		if p == nil {
			return
		}
		if p.RetentionLeft = count(m); math.IsInf(raw(m), 1) {
			p.RetentionLeft = math.Inf(1)
		}
	},
	"markread_member_info": func(d *decoder, l labels, _ *dto.Metric) {
		d.ID = l.text("member", maxLabel)
	},
	"markread_setting_info": func(d *decoder, l labels, _ *dto.Metric) {
		if name := l.text("name", maxLabel); name != "" && len(d.Settings) < maxSettings {
			d.Settings[name] = l.text("value", maxTopic)
		}
	},
}

func number(field func(*Member) *float64) func(*decoder, labels, *dto.Metric) {
	return func(d *decoder, _ labels, m *dto.Metric) { *field(d.Member) = count(m) }
}

func laneNumber(field func(*Lane) *float64) func(*decoder, labels, *dto.Metric) {
	return func(d *decoder, l labels, m *dto.Metric) {
		if i, ok := l.lane(); ok {
			*field(&d.Lanes[i]) = count(m)
		}
	}
}

func partitionNumber(field func(*Partition) *float64) func(*decoder, labels, *dto.Metric) {
	return func(d *decoder, l labels, m *dto.Metric) {
		if p := d.partition(l); p != nil {
			*field(p) = count(m)
		}
	}
}

// addTo adds n to the sum of a key, unless it is 0 or makes no sense, or there are most keys.
func addTo[K comparable](sums map[K]float64, key K, n float64, most int) {
	if _, ok := sums[key]; (ok || len(sums) < most) && n > 0 {
		sums[key] += n
	}
}

// ages returns the counts of a histogram's buckets. Buckets are matched by their bound: in the text
// format it may be written as 5 or 5.0. All are unknown if one is missing or they contradict each
// other.
func ages(h *dto.Histogram) Ages {
	var counts, unknown Ages
	for i := range counts {
		counts[i], unknown[i] = math.NaN(), math.NaN()
	}
	counts[len(AgeBounds)] = sane(float64(h.GetSampleCount()))
	for _, b := range h.GetBucket() {
		if i := slices.Index(AgeBounds[:], b.GetUpperBound()); i >= 0 {
			counts[i] = sane(float64(b.GetCumulativeCount()))
		}
	}
	for i := len(counts) - 1; i > 0; i-- {
		if counts[i] -= counts[i-1]; !(counts[i] >= 0) {
			return unknown
		}
	}
	if math.IsNaN(counts[0]) {
		return unknown
	}
	return counts
}
