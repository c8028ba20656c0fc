package secrets

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kgo"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
	"markread/consumer/kafkaclient"
	"markread/imclient"
)

const canaryProxyPassword = "pr0xy-CANARY-77d1e09a"

// A proxy from the environment echoes what it receives, including its own password. net/http reads
// the environment once, so each command line has its own process.
func TestSecretsBehindAProxy(t *testing.T) {
	if line := os.Getenv("MARKREAD_TEST_COMMAND_LINE"); line != "" {
		var args []string
		if err := json.Unmarshal([]byte(line), &args); err != nil {
			t.Fatal(err)
		}
		os.Exit(cli.Run(context.Background(), args, os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	s := newHarness(t)
	s.finder.add("the proxy's password", canaryProxyPassword)
	seen := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.addSignature(r.URL.Query().Get("usersig"))
		authorization := r.Header.Get("Proxy-Authorization")
		s.mu.Lock()
		seen++
		if authorization == "" {
			t.Errorf("%s: the proxy was sent no password", r.Method)
		}
		s.mu.Unlock()
		if r.Method == http.MethodConnect {
			writeRaw(w, "HTTP/1.1 502 can't reach "+r.RequestURI+" for "+authorization+" "+
				canaryProxyPassword+"\r\n\r\n")
			return
		}
		writePage(w, http.StatusBadGateway, authorization+" "+r.RequestURI)
	}))
	defer proxy.Close()
	user := "user:" + canaryProxyPassword + "@"
	good := "http://" + user + strings.TrimPrefix(proxy.URL, "http://")
	var all sync.WaitGroup
	call := func(url string) []string {
		return []string{"call", "--im-url", url, "--im-insecure", "--im-app-id",
			strconv.Itoa(app.LocalAppID),
			"--report", "a", "--peer", "b"}
	}
	status := []string{"status", "--brokers", s.broker, "--sasl", "plain", "--sasl-user", saslUser,
		"--admin-url",
		"https://admin.test"}
	check := func(url string) []string {
		return []string{"check", "--brokers", s.broker, "--sasl", "plain", "--sasl-user", saslUser,
			"--im-url", url,
			"--im-insecure", "--im-app-id", strconv.Itoa(app.LocalAppID),
			"--admin-addr", "127.0.0.1:0", "--log-level", "debug"}
	}
	odd := "http://user: " + canaryProxyPassword + "@ho st"
	for name, c := range map[string]struct {
		proxy string
		line  []string
		want  string
	}{
		"http":        {good, call("http://im.test"), "http_502"},
		"https":       {good, call("https://im.test"), "connect"},
		"odd address": {odd, call("http://im.test"), "connect"},
		"odd port":    {"http://" + user + "proxy.test:port", call("https://im.test"), "connect"},
		"refused":     {"http://" + user + "127.0.0.1:1", call("http://im.test"), "connect"},
		"not a proxy": {"https://" + user + strings.TrimPrefix(proxy.URL, "http://"),
			call("https://im.test"),
			"failure"},
		"other network": {"socks5://" + user + "127.0.0.1:1", call("https://im.test"),
			"failure"},
		"status, https":       {good, status, "the request to http"},
		"status, odd address": {odd, status, "the request to http"},
		"check, http":         {good, check("http://im.test"), "through the proxy 127.0.0.1:"},
		"check, https":        {good, check("https://im.test"), "through the proxy 127.0.0.1:"},
		"check, odd address":  {odd, check("https://im.test"), "check the proxy"},
		"check, odd network": {"socks5://" + user + "127.0.0.1:1", check("https://im.test"),
			"through the proxy 127.0.0.1:1"},
		"pause, https": {good, []string{"pause", "--admin-url", "https://admin.test"},
			"the request to http"},
		"pause, odd address": {odd, []string{"pause", "--admin-url", "https://admin.test"},
			"the request to http"},
	} {
		all.Go(func() {
			line, _ := json.Marshal(c.line)
			child := exec.CommandContext(t.Context(), os.Args[0],
				"-test.run=^TestSecretsBehindAProxy$")
			child.Env = append(s.secrets(), "MARKREAD_TEST_COMMAND_LINE="+string(line),
				"HTTP_PROXY="+c.proxy, "HTTPS_PROXY="+c.proxy, "PATH="+os.Getenv("PATH"))
			out, err := child.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%s: %v: %s", name, err, out)
			}
			s.record(name, string(out))
		})
	}
	all.Wait()
	s.search()
	if seen < 2 || len(s.sigs) == 0 {
		t.Errorf("the proxy was asked %d times, with %d signatures", seen, len(s.sigs))
	}
}

// dials records the addresses of all connections.
type dials struct {
	mu   sync.Mutex
	seen map[string]int
}

func (d *dials) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	d.seen[addr]++
	d.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// Only the brokers and the IM server are ever dialled, wherever a response points.
func TestOnlyConfiguredHostsAreDialled(t *testing.T) {
	var elsewhere sync.Map
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		elsewhere.Store(r.RequestURI, true)
	}))
	defer other.Close()
	host := strings.TrimPrefix(other.URL, "http://")
	answers := []func(w http.ResponseWriter, path string){}
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308, 401, 407, 421, 426} {
		answers = append(answers, func(w http.ResponseWriter, path string) {
			for name, value := range map[string]string{
				"Location": other.URL + path, "Content-Location": other.URL + path,
				"Refresh": "0; url=" + other.URL + path, "Alt-Svc": `h2="` + host + `"; ma=9`,
				"Proxy-Authenticate": "Basic", "WWW-Authenticate": "Basic", "Upgrade": "h2c",
				"Link": "<" + other.URL + path + ">; rel=preconnect",
			} {
				w.Header().Set(name, value)
			}
			writePage(w, status, `<meta http-equiv="refresh" content="0; url=`+other.URL+path+`">`)
		})
	}
	answers = append(answers, func(w http.ResponseWriter, path string) {
		writeRaw(w, fmt.Sprintf("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: "+
			"h2c\r\nAlt-Svc: h2=%q\r\nLocation: %s%s\r\n\r\n", host, other.URL, path))
	}, func(w http.ResponseWriter, path string) {
		w.Header().Set("Location", other.URL+path)
		clitest.WriteErrorCode(w, 90001, "see "+other.URL+path)
	})
	im := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var read struct {
			Report string `json:"Report_Account"`
		}
		_ = json.NewDecoder(r.Body).Decode(&read)
		if i, err := strconv.Atoi(read.Report); err == nil {
			answers[i](w, r.RequestURI)
			return
		}
		clitest.WriteErrorCode(w, 0, "")
	}))
	defer im.Close()
	b := clitest.StartBroker(t, app.DevTopics.Live, app.DevTopics.Backfill,
		app.DevTopics.DeadLetter)

	var d = dials{seen: map[string]int{}}
	transport := imclient.NewTransport(4*time.Second, 1)
	transport.DialContext = d.dial
	client, err := imclient.New(imclient.Options{
		BaseURL: im.URL, AppID: app.LocalAppID, Admin: app.LocalAdmin,
		Key:     imclient.Key(imclient.NewSecret(canaryKey)),
		Timeout: 4 * time.Second, Transport: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	var out clitest.Buffer
	log := zerolog.New(zerolog.SyncWriter(&out)).With().Timestamp().Logger()
	kafka, err := kafkaclient.New(kafkaclient.Options{Brokers: []string{b.Addr()}, Dial: d.dial,
		Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	events := []*kgo.Record{}
	for i := range answers {
		for k := range 6 {
			events = append(events, &kgo.Record{Topic: app.DevTopics.Live,
				Value: []byte(clitest.EventJSON(fmt.Sprintf("good-%d-%d", i, k), i))})
		}
		events = append(events,
			&kgo.Record{Topic: app.DevTopics.Live,
				Value: []byte(clitest.EventJSON(strconv.Itoa(i), i))})
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.ProduceSync(t.Context(), events...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Options{Worker: quickWorker(kafka, client, "dials", 1, log),
			AdminAddr: "127.0.0.1:0"})
	}()
	clitest.WaitUntil(t, "all letters",
		func() bool { return strings.Count(out.String(), "dead-lettered") == len(answers) })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	allowed := []string{b.Addr(), strings.TrimPrefix(im.URL, "http://")}
	for addr := range d.seen {
		if !slices.Contains(allowed, addr) {
			t.Errorf("%s was dialled", addr)
		}
	}
	elsewhere.Range(func(what,
		_ any) bool {
		t.Errorf("the other host was asked for %s", what)
		return true
	})
	if len(d.seen) != len(allowed) {
		t.Errorf("dialled: %v", d.seen)
	}
}
