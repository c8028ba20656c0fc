package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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
	request, err := http.NewRequest(http.MethodPut, s.url+"/sandbox/faults", bytes.NewReader(text))
	if err != nil {
		return err
	}
	return do(request, nil)
}

// arrivals returns the calls that the server has received, in the order of their arrival.
func (s *server) arrivals() (list []sandbox.Arrival, err error) {
	return list, get(s.url+"/sandbox/arrivals", func(body io.Reader) error {
		for d := json.NewDecoder(body); ; {
			var a sandbox.Arrival
			if err := d.Decode(&a); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			list = append(list, a)
		}
	})
}

// applied returns the number of calls that have succeeded.
func (s *server) applied() (int, error) {
	var stats sandbox.Stats
	err := get(s.url+"/sandbox/stats", func(body io.Reader) error {
		return json.NewDecoder(body).Decode(&stats)
	})
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

// sum returns the sum of a metric's series.
func (w *worker) sum(metric string) (n int, err error) {
	return n, get(w.admin+"/metrics", func(body io.Reader) error {
		text, err := io.ReadAll(body)
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, metric+"{"); ok {
				_, value, _ = strings.Cut(strings.TrimSpace(value), "} ")
				f, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return err
				}
				n += int(f)
			}
		}
		return err
	})
}

// waitReceived waits until the worker has received n events.
func (w *worker) waitReceived(ctx context.Context, n int) error {
	return w.wait(ctx, 50*time.Millisecond, func() (bool, error) {
		received, err := w.sum(received)
		return received >= n, err
	})
}

const received, backlog = "markread_events_received_total", "markread_backlog_events"

// ready reports whether the worker is a member of its group.
func (w *worker) ready() (bool, error) {
	response, err := client.Get(w.admin + "/readyz")
	if err != nil {
		return false, err
	}
	return response.StatusCode == http.StatusOK, response.Body.Close()
}

// client asks the children how far they are.
var client = &http.Client{Timeout: time.Minute}

func get(url string, read func(io.Reader) error) error {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return do(request, read)
}

func do(request *http.Request, read func(io.Reader) error) error {
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1000)) // the status says enough
		return fmt.Errorf("%s %s: %s: %s", request.Method, request.URL.Path, response.Status, text)
	}
	if read == nil {
		return nil
	}
	return read(response.Body)
}
