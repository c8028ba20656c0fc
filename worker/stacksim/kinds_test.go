package stacksim

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/imclient"
	"markread/imclient/sandbox"
)

// kind is a kind of fault. Either it is an incident, which begins and ends several times in a run,
// or it is the fate of some connections.
type kind struct {
	name string
	// noRepeats: the fault may neither lose an acknowledgement nor end a generation, so that no
	// dead letter may be repeated because of it.
	noRepeats bool
	// progress: calls succeed during the fault.
	progress bool
	// usesAttempts: the fault makes some calls fail while others succeed, so that it may use up a
	// conversation's attempts.
	usesAttempts bool

	shortest, longest time.Duration
	begin             func(s *simulation, n int, long time.Duration) (end func())

	fate func(p plan, l *link) fate
}

// kinds are all kinds of faults.
var kinds = []kind{
	{name: "kafka-cut", progress: true, fate: cutBehind(serviceKafka, 0.3, 20_000)},
	{name: "kafka-freeze", progress: true, fate: freezeBehind(serviceKafka, 0.1, 50_000)},
	{name: "im-cut", usesAttempts: true, progress: true, noRepeats: true,
		fate: cutBehind(serviceIM, 0.2, 3000)},
	{name: "im-freeze", usesAttempts: true, progress: true, noRepeats: true,
		fate: freezeBehind(serviceIM, 0.05, 3000)},

	{name: "kafka-blocked", progress: true, shortest: time.Second, longest: 40 * time.Second,
		begin: blockKafka},
	{name: "kafka-refused", progress: true, shortest: time.Second, longest: 40 * time.Second,
		begin: refuseKafka},
	{name: "broker-down", shortest: time.Second, longest: 20 * time.Second, begin: brokerDown},
	{name: "broker-errors", progress: true, shortest: time.Second, longest: 20 * time.Second,
		begin: brokerErrors},
	{name: "commits-unanswered", progress: true, shortest: time.Second, longest: 30 * time.Second,
		begin: loseResponses(kmsg.OffsetCommit)},
	{name: "letters-unanswered", progress: true, shortest: time.Second, longest: 30 * time.Second,
		begin: loseResponses(kmsg.Produce)},
	{name: "letters-refused", progress: true, noRepeats: true, shortest: time.Second,
		longest: 30 * time.Second, begin: refuseLetters},

	{name: "im-refused", noRepeats: true, shortest: time.Second, longest: time.Minute,
		begin: func(s *simulation, _ int, _ time.Duration) func() {
			s.network.refuse(route{service: serviceIM})
			return func() { s.network.open(route{service: serviceIM}) }
		}},
	{name: "im-outage", noRepeats: true, shortest: time.Second, longest: time.Minute,
		begin: ruleOf("im-outage", 1)},
	{name: "im-brown-out", usesAttempts: true, noRepeats: true, progress: true,
		shortest: time.Second, longest: time.Minute, begin: ruleOf("im-brown-out", 0.3)},
	{name: "im-poison", usesAttempts: true, noRepeats: true, progress: true, shortest: time.Second,
		longest: 2 * time.Minute, begin: poison},
	{name: "wrong-key", noRepeats: true, shortest: 5 * time.Second, longest: time.Minute,
		begin: wrongKeyFor},
	{name: "kicked", noRepeats: true, progress: true, shortest: time.Second, longest: time.Second,
		begin: func(s *simulation, _ int, _ time.Duration) func() {
			s.kick()
			return func() {}
		}},
	{name: "locked", noRepeats: true, shortest: time.Second, longest: 10 * time.Second,
		begin: func(s *simulation, _ int, _ time.Duration) func() {
			return s.rule("locked", sandbox.Rule{Kind: sandbox.KindCode, Code: 70050})
		}},
	{name: "stricter", noRepeats: true, progress: true, shortest: 10 * time.Second,
		longest: time.Minute,
		begin: func(s *simulation, n int, _ time.Duration) func() {
			return s.setFaults(func(f *sandbox.Faults) {
				f.Rate = max(1, int(float64(s.plan.rate)*(0.3+0.6*s.plan.unit("stricter", n))))
			}, func(f *sandbox.Faults) { f.Rate = 0 })
		}},
	{name: "throttled", noRepeats: true, progress: true, shortest: time.Second,
		longest: 10 * time.Second, begin: throttle},
	{name: "slow", usesAttempts: true, noRepeats: true, progress: true, shortest: 10 * time.Second,
		longest: 2 * time.Minute,
		begin: func(s *simulation, n int, _ time.Duration) func() {
			p50 := s.plan.between(5*time.Millisecond, 500*time.Millisecond, "p50", n)
			return s.setFaults(func(f *sandbox.Faults) {
				f.Latency = sandbox.Latency{P50: p50, P99: 10 * p50, Max: 20 * time.Second}
			}, func(f *sandbox.Faults) { f.Latency = sandbox.Latency{} })
		}},

	{name: "all-rejected", noRepeats: true, shortest: time.Second, longest: 40 * time.Second,
		begin: func(s *simulation, _ int, _ time.Duration) func() {
			return s.rule("all-rejected", sandbox.Rule{Kind: sandbox.KindCode, Code: 90048})
		}},
	{name: "paused", noRepeats: true, shortest: time.Second, longest: 30 * time.Second,
		begin: func(s *simulation, n int, _ time.Duration) func() {
			slot, _ := s.runningWorker("pause", n)
			if slot < 0 {
				return nil
			}
			s.mu.Lock()
			h := s.running[slot]
			s.mu.Unlock()
			h.Pause("", "")
			return func() { h.Resume("", s.plan.unit("accept", n) < 0.5) }
		}},

	{name: "stopped", noRepeats: true, progress: true, shortest: 100 * time.Millisecond,
		longest: 20 * time.Second,
		begin: func(s *simulation, n int, _ time.Duration) func() {
			return s.withoutWorker("stopped", n, func(slot int) { s.stopWorker(slot) })
		}},
	{name: "killed", progress: true, shortest: 100 * time.Millisecond, longest: 20 * time.Second,
		begin: func(s *simulation, n int, _ time.Duration) func() {
			return s.withoutWorker("killed", n, func(slot int) { s.killWorker(slot) })
		}},
}

// cutBehind cuts a share of a service's connections, most of them after few bytes and some after
// many.
func cutBehind(service string, share float64, most int) func(plan, *link) fate {
	return func(p plan, l *link) fate {
		key := p.linkKey(l)
		if l.service != service || p.unit("cut", key, l.number) >= share {
			return fate{}
		}
		return fate{kind: cuts, after: p.bytes(most, "cut-after", key, l.number)}
	}
}

func freezeBehind(service string, share float64, most int) func(plan, *link) fate {
	return func(p plan, l *link) fate {
		key := p.linkKey(l)
		if l.service != service || p.unit("freeze", key, l.number) >= share {
			return fate{}
		}
		return fate{
			kind: freezes, after: p.bytes(most, "freeze-after", key, l.number),
			duration: p.between(50*time.Millisecond, 40*time.Second, "frozen", key, l.number),
			resumes:  p.unit("thaw", key, l.number) < 0.5,
		}
	}
}

func (p plan) linkKey(l *link) int { return int(seed(0).bits(l.client+l.service) >> 1) }

func (p plan) bytes(most int, purpose string, keys ...int) int {
	u := p.unit(purpose, keys...)
	return int(u * u * u * float64(most))
}

// runningWorker returns a slot with a running worker, or -1.
func (s *simulation) runningWorker(purpose string, n int) (slot int, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot = s.plan.below(s.plan.workers, purpose, n)
	if s.running[slot] == nil {
		return -1, ""
	}
	return slot, s.running[slot].name
}

func blockKafka(s *simulation, n int, long time.Duration) func() {
	_, name := s.runningWorker("block", n)
	if name == "" {
		return nil
	}
	w := route{name, serviceKafka}
	s.network.block(w, long, s.plan.unit("block-then", n) < 0.5)
	return func() { s.network.open(w) }
}

func refuseKafka(s *simulation, n int, _ time.Duration) func() {
	_, name := s.runningWorker("refuse", n)
	if name == "" {
		return nil
	}
	w := route{name, serviceKafka}
	s.network.refuse(w)
	return func() { s.network.open(w) }
}

func brokerDown(s *simulation, _ int, _ time.Duration) func() {
	s.network.refuse(route{service: serviceKafka})
	return func() { s.network.open(route{service: serviceKafka}) }
}

var (
	anyError = []*kerr.Error{kerr.UnknownServerError, kerr.RequestTimedOut,
		kerr.ThrottlingQuotaExceeded, kerr.NetworkException}
	logErrors = []*kerr.Error{kerr.NotLeaderForPartition, kerr.LeaderNotAvailable,
		kerr.UnknownTopicOrPartition, kerr.KafkaStorageError, kerr.FencedLeaderEpoch,
		kerr.OffsetNotAvailable, kerr.CorruptMessage, kerr.OffsetOutOfRange}
	groupError = []*kerr.Error{kerr.NotCoordinator, kerr.CoordinatorNotAvailable,
		kerr.CoordinatorLoadInProgress}
	fenced = []*kerr.Error{kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress}
)

// possibleErrors is what each request may be answered with.
var possibleErrors = []struct {
	key    kmsg.Key
	errors [][]*kerr.Error
}{
	{kmsg.Fetch, [][]*kerr.Error{anyError, logErrors}},
	{kmsg.ListOffsets, [][]*kerr.Error{anyError, logErrors}},
	{kmsg.Metadata, [][]*kerr.Error{{kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition}}},
	{kmsg.FindCoordinator, [][]*kerr.Error{anyError, groupError}},
	{kmsg.JoinGroup, [][]*kerr.Error{anyError, groupError, fenced}},
	{kmsg.SyncGroup, [][]*kerr.Error{anyError, groupError, fenced}},
	{kmsg.Heartbeat, [][]*kerr.Error{anyError, groupError, fenced}},
	{kmsg.LeaveGroup, [][]*kerr.Error{anyError, groupError, fenced}},
	{kmsg.OffsetFetch, [][]*kerr.Error{anyError, groupError, fenced, {kerr.UnstableOffsetCommit}}},
	{kmsg.OffsetCommit, [][]*kerr.Error{anyError, groupError, fenced,
		{kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition}}},
}

func brokerErrors(s *simulation, n int, _ time.Duration) func() {
	m := pick(s.plan.seed, possibleErrors, "key", n)
	code := pick(s.plan.seed, pick(s.plan.seed, m.errors, "errors", n), "code", n)
	f := s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{m.key}, Err: code,
		Count: 1 + s.plan.below(20, "count", n)})
	if m.key == kmsg.Metadata {
		// A topic that no broker knows for 5 s counts as deleted, and its partitions no longer
		// count for the shares.
		time.AfterFunc(3*time.Second, f.Remove)
	}
	back := func() {}
	if slices.Contains([]kmsg.Key{kmsg.JoinGroup, kmsg.SyncGroup, kmsg.OffsetFetch, kmsg.LeaveGroup,
		kmsg.ListOffsets}, m.key) {
		// Only a rebalance sends these requests: cause one, and another at the end.
		if returns := s.withoutWorker("rebalance", n,
			func(slot int) { s.stopWorker(slot) }); returns != nil {
			back = returns
		}
	}
	return func() {
		back()
		f.Remove()
		s.note(m.key.Name()+" failed with "+code.Message, f.Hits())
	}
}

func loseResponses(key kmsg.Key) func(*simulation, int, time.Duration) func() {
	return func(s *simulation, n int, _ time.Duration) func() {
		s.losingResponses[key].Store(true)
		return func() { s.losingResponses[key].Store(false) }
	}
}

func refuseLetters(s *simulation, n int, _ time.Duration) func() {
	code := pick(s.plan.seed, []*kerr.Error{
		kerr.NotEnoughReplicas, kerr.TopicAuthorizationFailed, kerr.KafkaStorageError,
		kerr.NotLeaderForPartition,
		kerr.UnknownTopicOrPartition, kerr.PolicyViolation,
	}, "letters", n)
	f := s.broker.Cluster().
		Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topics.DeadLetter, Err: code,
			Count: -1})
	return func() {
		f.Remove()
		s.note("Produce failed with "+code.Message, f.Hits())
	}
}

// outages are the ways in which an IM server fails.
var outages = []sandbox.Rule{
	{Kind: sandbox.KindStatus, Status: 502}, {Kind: sandbox.KindStatus, Status: 503},
	{Kind: sandbox.KindStatus, Status: 408},
	{Kind: sandbox.KindReset}, {Kind: sandbox.KindHang}, {Kind: sandbox.KindCut},
	{Kind: sandbox.KindHalf},
	{Kind: sandbox.KindGarbage},
	{Kind: sandbox.KindWrongTypes}, {Kind: sandbox.KindRedirect, To: "http://elsewhere.example/"},
	{Kind: sandbox.KindEchoURL},
	{Kind: sandbox.KindCode, Code: 91000}, {Kind: sandbox.KindCode, Code: 60008},
	{Kind: sandbox.KindCode, Code: 60004},
	{Kind: sandbox.KindCode, Code: 123456},
}

func ruleOf(name string, share float64) func(*simulation, int, time.Duration) func() {
	return func(s *simulation, n int, _ time.Duration) func() {
		r := pick(s.plan.seed, outages, name, n)
		r.Apply = r.Kind != sandbox.KindCode && s.plan.unit(name+"-apply", n) < 0.3
		if share < 1 {
			r.Share = share
		}
		return s.rule(name, r)
	}
}

// poison makes every call of some conversations fail.
func poison(s *simulation, n int, _ time.Duration) func() {
	r := pick(s.plan.seed, outages, "poison", n)
	r.Conversations = 0.05
	return s.rule("im-poison", r)
}

func throttle(s *simulation, n int, _ time.Duration) func() {
	r := sandbox.Rule{Kind: sandbox.KindStatus, Status: 429,
		RetryAfter: strconv.Itoa(1 + s.plan.below(8, "retry-after", n)), Share: 0.1}
	if s.plan.unit("throttled-code", n) < 0.5 {
		r = sandbox.Rule{Kind: sandbox.KindCode, Code: 60007, Share: 0.3}
	}
	return s.rule("throttled", r)
}

// kick revokes the administrator's signatures. Its own request is signed with another lifetime than
// the workers use: two UserSigs created in the same second with the same lifetime are identical,
// and would be revoked together.
func (s *simulation) kick() {
	signature, err := imclient.Sign(appID, "administrator", imclient.NewSecret(rightKey),
		time.Now(), time.Hour)
	if err != nil {
		s.t.Error(err)
	}
	query := fmt.Sprintf("?sdkappid=%d&identifier=administrator&usersig=%s"+
		"&random=1&contenttype=json", appID, signature)
	request := httptest.NewRequest(http.MethodPost, "/v4/im_open_login_svc/kick"+query,
		strings.NewReader(`{"UserID":"administrator"}`))
	response := httptest.NewRecorder()
	s.sandbox.ServeHTTP(response, request)
	// already kicked within this second
	if text := response.Body.String(); !strings.Contains(text, `"ErrorCode":0`) &&
		!strings.Contains(text, "70052") {
		s.t.Errorf("kick: %s", text)
	}
}

func wrongKeyFor(s *simulation, _ int, _ time.Duration) func() {
	s.wrong.Store(true)
	s.kick()
	return func() { s.wrong.Store(false) }
}
