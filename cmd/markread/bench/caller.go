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

	"golang.org/x/sync/errgroup"

	"markread/imclient"
	"markread/imclient/sandbox"
)

// The sandbox's app. The key signs for sandboxes only.
const (
	appID    = 1400000000
	appAdmin = "administrator"
	appKey   = "markread-bench-key"
)

// measurement is one side's turn in one run of a row. endScraping and then stopAll end what it has
// started.
type measurement struct {
	*bench
	kafka    *kafkaSide
	side     string
	name     string // unique
	workers  int    // started so far
	children []*process

	scraping     errgroup.Group
	stopScraping context.CancelFunc // of sides scraped and watched
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

// caller is the process of a side, and the sandbox that it calls.
type caller struct {
	*process
	admin   string // URL of a worker's admin server
	sandbox string // its URL
}

// startCaller starts a sandbox without a limit of its own, and the process of the measurement's
// side: a worker with the flags, or a loop with the job.
func (m *measurement) startCaller(ctx context.Context, topic string, f sandbox.Faults,
	flags []string, j job) (*caller, error) {
	p, err := m.start(ctx, m.self, "program", job{Args: []string{"sandbox", "--addr", "127.0.0.1:0",
		"--app-id", strconv.Itoa(appID), "--rate", "0"}})
	if err != nil {
		return nil, err
	}
	c := &caller{}
	if c.sandbox, err = p.line(ctx, `IM sandbox +(http://\S+)`); err != nil {
		return nil, err
	}
	if err := c.setFaults(f); err != nil {
		return nil, err
	}
	file, role := m.self, "program"
	switch m.side {
	case kafkaLoop, postLoop:
		role = map[string]string{kafkaLoop: "loop", postLoop: "post"}[m.side]
		j.Brokers, j.Topic, j.Group, j.InFlight = m.kafka.brokers, topic, m.name, inFlight
		if j.URL, err = callURL(c.sandbox); err != nil {
			return nil, err
		}
	case baseline:
		file = m.Baseline
		fallthrough
	default:
		m.workers++ // a group of its own: the member of the last one does not leave it
		m.kafka.created = append(m.kafka.created, topic+"-dead")
		j.Args = append([]string{"run", "--brokers", strings.Join(m.kafka.brokers, ","),
			"--group", fmt.Sprintf("%s-%d", m.name, m.workers), "--topic", topic,
			"--backfill-topic", "", "--dead-letter-topic", topic + "-dead", "--create-topics",
			"--im-url", c.sandbox, "--im-app-id", strconv.Itoa(appID),
			"--admin-addr", "127.0.0.1:0"}, flags...)
	}
	if c.process, err = m.start(ctx, file, role, j); err != nil || role != "program" {
		return c, err
	}
	addr, err := c.line(ctx, `"addr":"(127\.0\.0\.1:\d+)".*admin server listens`)
	c.admin = "http://" + addr
	if (m.side == scraped || m.side == watched) && err == nil {
		m.startScraping(ctx, c.admin)
	}
	return c, err
}

// callURL is the URL of the loops' calls, without random.
func callURL(sandbox string) (string, error) {
	sig, err := imclient.Sign(appID, appAdmin, imclient.NewSecret(appKey), time.Now(), 24*time.Hour)
	return fmt.Sprintf("%s/v4/openim/admin_set_msg_read?sdkappid=%d&identifier=%s&usersig=%s"+
		"&contenttype=json", sandbox, appID, appAdmin, sig), err
}

// outage lets every call fail for a time; 0: for ever.
func outage(d time.Duration) sandbox.Faults {
	return sandbox.Faults{Rules: []sandbox.Rule{{Kind: sandbox.KindStatus, Status: 502, For: d}}}
}

func (c *caller) setFaults(f sandbox.Faults) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = ask(http.MethodPut, c.sandbox+"/sandbox/faults", text)
	return err
}

// arrivals returns the calls that the sandbox has received, in the order of their arrival.
func (c *caller) arrivals() (list []sandbox.Arrival, err error) {
	text, err := ask(http.MethodGet, c.sandbox+"/sandbox/arrivals", nil)
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
func (c *caller) applied() (int, error) {
	var stats sandbox.Stats
	text, err := ask(http.MethodGet, c.sandbox+"/sandbox/stats", nil)
	if err == nil {
		err = json.Unmarshal(text, &stats)
	}
	return int(stats.Applied), err
}

// waitApplied waits until n calls or more have succeeded, and returns their number.
func (c *caller) waitApplied(ctx context.Context, n int) (applied int, err error) {
	err = c.wait(ctx, 50*time.Millisecond, func() (_ bool, err error) {
		applied, err = c.applied()
		return applied >= n, err
	})
	return applied, err
}

const (
	receivedMetric = "markread_events_received_total"
	backlogMetric  = "markread_backlog_events"
)

// sum returns the sum of a metric's series.
func (c *caller) sum(metric string) (n int, err error) {
	text, err := ask(http.MethodGet, c.admin+"/metrics", nil)
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
func (c *caller) waitReceived(ctx context.Context, n int) error {
	return c.wait(ctx, 50*time.Millisecond, func() (bool, error) {
		sum, err := c.sum(receivedMetric)
		return sum >= n, err
	})
}

// waitReady waits until the worker is a member of its group.
func (c *caller) waitReady(ctx context.Context) error {
	return c.wait(ctx, 50*time.Millisecond, func() (bool, error) {
		_, err := ask(http.MethodGet, c.admin+"/readyz", nil)
		return err == nil, nil
	})
}

// ask makes a request to a child and returns the content of the response.
func ask(method, url string, content []byte) ([]byte, error) {
	request, err := http.NewRequest(method, url, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	return send(request)
}

func send(request *http.Request) ([]byte, error) {
	response, err := http.DefaultClient.Do(request) // if the child hangs, it is killed
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.500s", request.Method, request.URL, response.Status, text)
	}
	return text, err
}
