package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"markread/imclient"
	"markread/imclient/sandbox"
)

// The sandbox's app. The key signs for sandboxes only.
const (
	appID    = 1400000000
	appAdmin = "administrator"
	appKey   = "markread-bench-key"
)

// measurement is one side's turn in one run of a row. stopAll ends the children that it started.
type measurement struct {
	*bench
	kafka    *kafkaSide
	side     string
	group    string
	workers  int // started so far
	children []*process
}

func (m *measurement) start(ctx context.Context, file, role string, j job) (*process, error) {
	p, err := start(ctx, file, role, j)
	if err == nil {
		m.children = append(m.children, p)
	}
	return p, err
}

func (m *measurement) stopAll() {
	for _, p := range slices.Backward(m.children) {
		p.stop()
	}
	m.children = nil
}

// server is a `markread sandbox` without a limit of its own.
type server struct {
	*process
	url string
}

// startServer starts the sandbox with its faults.
func (m *measurement) startServer(ctx context.Context, f sandbox.Faults) (*server, error) {
	p, err := m.start(ctx, m.self, "program", job{Args: []string{"sandbox", "--addr", "127.0.0.1:0",
		"--app-id", strconv.Itoa(appID), "--rate", "0"}})
	if err != nil {
		return nil, err
	}
	url, err := p.line(ctx, `IM sandbox +(http://\S+)`)
	if err != nil {
		return nil, err
	}
	s := &server{p, url}
	return s, s.setFaults(f)
}

// outage lets every call fail for a time; 0: for ever.
func outage(d time.Duration) sandbox.Faults {
	return sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 502, For: d}}}
}

func (s *server) setFaults(f sandbox.Faults) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = ask(http.MethodPut, s.url+"/sandbox/faults", text)
	return err
}

// arrivals returns the calls that the server has received, in the order of their arrival.
func (s *server) arrivals() (list []sandbox.Arrival, err error) {
	text, err := ask(http.MethodGet, s.url+"/sandbox/arrivals", nil)
	for line := range bytes.Lines(text) {
		var a sandbox.Arrival
		if err := json.Unmarshal(line, &a); err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, err
}

// applied returns the number of calls that have succeeded.
func (s *server) applied() (int, error) {
	var stats sandbox.Stats
	text, err := ask(http.MethodGet, s.url+"/sandbox/stats", nil)
	if err == nil {
		err = json.Unmarshal(text, &stats)
	}
	return int(stats.Applied), err
}

// callURL is the URL of the loops' calls, without random.
func (s *server) callURL() (string, error) {
	sig, err := imclient.Sign(appID, appAdmin, imclient.NewSecret(appKey), time.Now(), 24*time.Hour)
	return fmt.Sprintf("%s/v4/openim/admin_set_msg_read?sdkappid=%d&identifier=%s&usersig=%s"+
		"&contenttype=json", s.url, appID, appAdmin, sig), err
}

// worker is a `markread run`.
type worker struct {
	*process
	admin string // URL of its admin server
}

// startWorker starts the worker of the measurement's side on a topic.
func (m *measurement) startWorker(ctx context.Context, topic string, s *server, flags ...string) (
	*worker, error) {
	file := m.self
	if m.side == baseline {
		file = m.Baseline
	}
	m.kafka.created = append(m.kafka.created, topic+"-dead")
	m.workers++
	group := fmt.Sprintf("%s-%d", m.group, m.workers) // the last one's member is still in its group
	p, err := m.start(ctx, file, "program", job{Args: append([]string{"run",
		"--brokers", strings.Join(m.kafka.brokers, ","), "--group", group, "--topic", topic,
		"--backfill-topic", "", "--dead-letter-topic", topic + "-dead", "--create-topics",
		"--im-url", s.url, "--im-app-id", strconv.Itoa(appID), "--admin-addr", "127.0.0.1:0"},
		flags...)})
	if err != nil {
		return nil, err
	}
	addr, err := p.line(ctx, `"addr":"(127\.0\.0\.1:\d+)".*admin server listens`)
	return &worker{p, "http://" + addr}, err
}

const (
	receivedMetric = "markread_events_received_total"
	backlogMetric  = "markread_backlog_events"
)

// sum returns the sum of a metric's series.
func (w *worker) sum(metric string) (n int, err error) {
	text, err := ask(http.MethodGet, w.admin+"/metrics", nil)
	for _, series := range regexp.MustCompile(`(?m)^`+metric+`\{.*\} (\S+)$`).
		FindAllSubmatch(text, -1) {
		value, err := strconv.ParseFloat(string(series[1]), 64)
		if err != nil {
			return 0, err
		}
		n += int(value)
	}
	return n, err
}

// waitReceived waits until the worker has received n events.
func (w *worker) waitReceived(ctx context.Context, n int) error {
	return w.wait(ctx, 50*time.Millisecond, func() (bool, error) {
		sum, err := w.sum(receivedMetric)
		return sum >= n, err
	})
}

// waitReady waits until the worker is a member of its group.
func (w *worker) waitReady(ctx context.Context) error {
	return w.wait(ctx, 50*time.Millisecond, func() (bool, error) {
		_, err := ask(http.MethodGet, w.admin+"/readyz", nil)
		return err == nil, nil
	})
}

// ask makes a request to a child and returns the content of the response.
func ask(method, url string, content []byte) ([]byte, error) {
	request, err := http.NewRequest(method, url, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request) // if the child hangs, it is killed
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.500s", method, url, response.Status, text)
	}
	return text, err
}
