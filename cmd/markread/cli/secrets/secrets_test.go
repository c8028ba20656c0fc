package secrets

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	plainsasl "github.com/twmb/franz-go/pkg/sasl/plain"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli"
	"markread/cmd/markread/cli/clitest"
	"markread/imclient"
	"markread/imclient/sandbox"
)

// The canaries contain characters that every kind of escaping changes.
const (
	canaryKey      = `K3y"CANARY\5bd2850fff3ecb11d7c805251c51ee463a25727b+/=<&>`
	wrongKey       = `Wr0ng+CANARY/c13f9d2b7a4e8806615c9d33f0b2a7e4`
	canaryPassword = `pa55 w0rd"CANARY\<&>%41/@:#-7f3c9b1e5d2a`
	wrongPassword  = `n0t-the-pa55 w0rd-CANARY-e41b07`
	canaryToken    = `adm1n-T0ken-CANARY-9c0f4e2d7b`
	saslUser       = "worker"
)

// harness is a broker that requires a password, an IM server that echoes the URL of each request,
// and a record of all output.
type harness struct {
	*testing.T
	finder  *secretFinder
	broker  string
	url     string // the IM server's
	im      *sandbox.Server
	keyFile string

	mu        sync.Mutex
	artefacts map[string]string // output by place
	sigs      map[string]bool
	met       map[string]int // calls by account and by trouble
}

func newHarness(t *testing.T) *harness {
	s := &harness{T: t, finder: newSecretFinder(), artefacts: map[string]string{},
		sigs: map[string]bool{},
		met:  map[string]int{}}
	for name, secret := range map[string]string{
		"the key": canaryKey, "the wrong key": wrongKey, "the password": canaryPassword,
		"the wrong password": wrongPassword, "the token": canaryToken,
	} {
		s.finder.add(name, secret)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", saslUser, canaryPassword),
		kfake.SeedTopics(2, "mark-read", "mark-read-backfill", "mark-read-dead-letters",
			refusingTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	s.broker = cluster.ListenAddrs()[0]
	cluster.ControlKey(kmsg.Produce.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		request := r.(*kmsg.ProduceRequest)
		if len(request.Topics) != 1 || request.Topics[0].Topic != refusingTopic {
			return nil, nil, false
		}
		return nil, errors.New("the disk is full"), true
	})

	s.im = sandbox.New(sandbox.Options{AppID: app.LocalAppID, Admin: app.LocalAdmin,
		Key:          imclient.NewSecret(canaryKey),
		OpenAccounts: true})
	if err := s.im.SetFaults(sandboxRules()); err != nil {
		t.Fatal(err)
	}
	s.keyFile = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(s.keyFile, []byte(canaryKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(s.handler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	s.url = server.URL
	return s
}

// handler returns the IM server. It identifies a worker in trouble by the path, and otherwise
// chooses the response by the account.
func (s *harness) handler() http.Handler {
	ways, troubles := faultResponses(), holdingFaults()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.addSignature(r.URL.Query().Get("usersig"))
		// The signature comes first, because a response is shown truncated.
		address := "usersig=" + r.URL.Query().
			Get("usersig") + " is in http://" + r.Host + r.URL.RequestURI()
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var read struct {
			Report  string `json:"Report_Account"`
			Account string `json:"To_Account"` // in a request of check
		}
		_ = json.Unmarshal(body, &read)
		read.Report = cmp.Or(read.Report, read.Account)
		prefix, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		trouble, inTrouble := troubles[prefix]
		s.mu.Lock()
		if inTrouble {
			s.met[prefix]++
		} else {
			s.met[read.Report]++
		}
		s.mu.Unlock()
		switch way := ways[read.Report]; {
		case inTrouble:
			trouble.answer(w, s, address)
		case way != nil:
			way(w, address)
		case strings.HasPrefix(read.Report, "leak-"):
			clitest.WriteErrorCode(w, 90001, "no")
		default:
			s.im.ServeHTTP(w, r)
		}
	})
}

// addSignature adds a signature, and the MAC in it, to the canaries.
func (s *harness) addSignature(sig string) {
	s.mu.Lock()
	known := s.sigs[sig]
	s.sigs[sig] = true
	s.mu.Unlock()
	if known || sig == "" {
		return
	}
	mac := macOf(sig)
	if mac == "" {
		s.Errorf("this is no signature: %s", sig)
		return
	}
	s.finder.add("a signature", sig)
	s.finder.add("a signature's MAC", mac)
}

// macOf decodes a signature's MAC, with which anybody can make the signature again.
func macOf(sig string) string {
	packed, err := base64.StdEncoding.DecodeString(strings.NewReplacer("*", "+", "-", "/", "_",
		"=").Replace(sig))
	if err != nil {
		return ""
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return ""
	}
	var fields struct {
		MAC string `json:"TLS.sig"`
	}
	_ = json.NewDecoder(z).Decode(&fields)
	return fields.MAC
}

// calls returns the number of calls by an account, or by a worker in trouble.
func (s *harness) calls(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.met[name]
}

// spoilKeyFile replaces the key file by a folder.
func (s *harness) spoilKeyFile() {
	_ = os.Remove(s.keyFile)
	_ = os.Mkdir(s.keyFile, 0o700)
}

// record records the output of a place.
func (s *harness) record(where, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.Contains(s.artefacts[where], text) { // the same page again
		s.artefacts[where] += text
	}
}

// secrets returns the variables of a command line with all secrets.
func (s *harness) secrets() []string {
	return []string{"MARKREAD_IM_KEY=" + canaryKey, "MARKREAD_SASL_PASSWORD=" + canaryPassword,
		"MARKREAD_ADMIN_TOKEN=" + canaryToken}
}

// run runs a command line to its end and records its output.
func (s *harness) run(name string, env []string, stdin string, args ...string) clitest.Result {
	s.Helper()
	r := clitest.Commands(cli.Run).Try(s.T, env, stdin, args...)
	s.record(name+", standard output", r.Stdout)
	s.record(name+", standard error", r.Stderr)
	return r
}

// worker begins a worker in its own group, and records its output when it has stopped.
func (s *harness) worker(name, url string, env []string, extra ...string) (r *clitest.Running,
	admin string) {
	s.Helper()
	r = clitest.Commands(cli.Run).
		Begin(s.T, env, append([]string{"run", "--brokers", s.broker, "--sasl", "plain",
			"--sasl-user", saslUser,
			"--group", name,
			"--im-url", url, "--im-app-id", strconv.Itoa(app.LocalAppID), "--im-timeout", "3001ms",
			"--drain-timeout",
			"4001ms", "--rate", "0", "--max-in-flight", "16",
			"--attempts", "1", "--commit-every", "50ms", "--admin-addr", "127.0.0.1:0",
			"--log-level", "debug"}, extra...)...)
	return r, "http://" + r.WaitFor(s.T, `"addr":"(127\.0\.0\.1:\d+)"`)
}

// stop stops a worker and records its output.
func (s *harness) stop(name string, r *clitest.Running) {
	s.Helper()
	if status := r.Stop(); status != cli.ExitOK {
		s.Errorf("%s: exit status %d", name, status)
	}
	s.record(name+", standard output", r.Stdout.String())
	s.record(name+", standard error", r.Stderr.String())
}

func (s *harness) kafka(options ...kgo.Opt) *kgo.Client {
	s.Helper()
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(s.broker),
		kgo.SASL(plainsasl.Auth{User: saslUser, Pass: canaryPassword}.AsMechanism()))...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(client.Close)
	return client
}

// letters reads dead letters until it has n of a group, and records their keys, values and headers.
func (s *harness) letters(group string, n int) (found []*kgo.Record) {
	s.Helper()
	client := s.kafka(kgo.ConsumeTopics("mark-read-dead-letters"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(s.Context(), clitest.WaitLimit)
	defer cancel()
	for len(found) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			s.Fatalf("%d of %d letters of %s: %v", len(found), n, group, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			s.record("dead letters", string(r.Key)+"\n"+string(r.Value)+"\n")
			for _, h := range r.Headers {
				s.record("dead letters", h.Key+": "+string(h.Value)+"\n")
				if h.Key == "__dlq.errors.group" && string(h.Value) == group {
					found = append(found, r)
				}
			}
		})
	}
	return found
}

// commits records the commit metadata of a group.
func (s *harness) commits(group string) (committed int) {
	s.Helper()
	request := kmsg.NewPtrOffsetFetchRequest()
	request.Group = group
	one := kmsg.NewOffsetFetchRequestGroup()
	one.Group = group
	request.Groups = append(request.Groups, one)
	answer, err := request.RequestWith(s.Context(), s.kafka())
	if err != nil {
		s.Fatal(err)
	}
	for _, g := range answer.Groups {
		for _, topic := range g.Topics {
			for _, p := range topic.Partitions {
				committed++
				if p.Metadata != nil {
					s.record("commit metadata", *p.Metadata+"\n")
					if plain, err := base64.StdEncoding.DecodeString(*p.Metadata); err == nil {
						s.record("commit metadata", string(plain)+"\n")
					}
				}
			}
		}
	}
	return committed
}

// search looks for every canary in all recorded output.
func (s *harness) search() {
	s.Helper()
	size := 0
	for where, text := range s.artefacts {
		size += len(text)
		s.finder.check(s.T, where, text)
	}
	s.Logf("searched %d bytes from %d places for %d secrets", size, len(s.artefacts),
		len(s.finder.known))
}

// waitForHold waits until a trouble's hold is shown.
func (s *harness) waitForHold(admin, reason string) {
	s.Helper()
	clitest.WaitUntil(s.T, "the hold "+reason,
		func() bool {
			return strings.Contains(clitest.Fetch(s.T, admin+"/readyz"), `"reason":"`+reason+`"`)
		})
}
