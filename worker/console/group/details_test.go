package group

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"markread/consumer/broker/brokertest"
	"markread/imclient"
)

// details is what a worker says of itself, with texts that are no lines.
const details = `{"scope":"worker","workers":[{"held":[{"reason":"outage","lane":"all",
"since":"2026-12-01T00:00:00Z","detail":"17 of 20\ncalls\u001b[31m","code":"http_502"}]}],
"partitions":[{"topic":"t","partition":1,"oldest_seconds":20,"oldest":{"offset":17,"code":"60008",
"message":"` + "%s" + `","report":"alice\u202e"},"unreadable":{"reason":"no\tleader"}}],
"history":{"series":{}}}`

// The details of a worker on this machine are read with the token while something is wrong there,
// at most every four seconds, and bounded; elsewhere they are not.
func TestDetails(t *testing.T) {
	brokertest.Bubble(t, func(t *testing.T) {
		var network kfake.VirtualNetwork
		old, status, body := 20, http.StatusOK, fmt.Sprintf(details, strings.Repeat("x", 5000))
		asked := map[string]int{}
		for _, addr := range []string{"localhost:1", "localhost:7"} {
			serve(t, &network, addr, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/metrics" {
					_, _ = fmt.Fprintf(w, "%s# TYPE markread_partition_oldest_unfinished_seconds gauge\n"+
						"markread_partition_oldest_unfinished_seconds{topic=\"t\",partition=\"1\"} %d\n",
						metrics, old)
					return
				}
				if r.Method != http.MethodGet || r.URL.Path != "/api/overview" ||
					r.Header.Get("Authorization") != "Bearer token" {
					t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
				}
				asked[addr]++
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			})
		}
		dial := func(ctx context.Context, n, addr string) (net.Conn, error) {
			return network.DialContext(ctx, n, strings.Replace(addr, "10.0.0.7:1", "localhost:7", 1))
		}
		g := New(Options{Dial: dial, Token: imclient.NewSecret("token")})
		defer g.scraper.http.CloseIdleConnections()
		here, there := &peer{endpoint: endpoint{addr: "localhost:1"}},
			&peer{endpoint: endpoint{addr: "10.0.0.7:1"}}
		rounds := func(n int) {
			for range n {
				g.scraper.scrapeAll(t.Context(), []*peer{here, there})
				time.Sleep(workersEvery)
			}
		}
		rounds(10)
		if asked["localhost:1"] != 5 || asked["localhost:7"] != 0 || here.details == nil ||
			there.details != nil {
			t.Fatalf("asked %v: %+v, %+v", asked, here, there)
		}
		h, p := here.details.Holds[0], here.details.Partitions[0]
		if h.Detail != "17 of 20 calls?[31m" || h.Code != "http_502" || p.Oldest.Offset != 17 ||
			p.Oldest.Code != "60008" || len(p.Oldest.Message) > maxDetail ||
			p.Oldest.Report != "alice?" || p.Unreadable.Reason != "no leader" {
			t.Errorf("%+v, %+v, %+v", h, p.Oldest, p.Unreadable)
		}
		old = 1
		rounds(2)
		if asked["localhost:1"] != 5 || here.details != nil {
			t.Errorf("nothing is wrong: asked %v, %+v", asked, here.details)
		}
		old = 20
		for _, body = range []string{"{", `{"workers":[]}`, "null", strings.Repeat(" ", 2<<20)} {
			here.asked = time.Time{}
			if rounds(2); here.details != nil || here.sample == nil {
				t.Errorf("%.20s: %+v", body, here)
			}
		}
		body, status = details, http.StatusUnauthorized
		here.asked, asked = time.Time{}, map[string]int{}
		if rounds(20); here.details != nil || asked["localhost:1"] != 2 {
			t.Errorf("refused: asked %v", asked)
		}
	})
}
