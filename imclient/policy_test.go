package imclient_test

import (
	"strings"
	"testing"
	"time"

	"markread/imclient"
)

func TestBackoffDoublesUpToItsMaximum(t *testing.T) {
	b := imclient.NewBackoff(200*time.Millisecond, 30*time.Second)
	almost := 1 - 1e-9
	for failures, ms := range map[int]int{-1: 200, 0: 200, 1: 200, 2: 400, 3: 800, 4: 1600, 5: 3200,
		6: 6400, 7: 12800, 8: 25600, 9: 30000, 10: 30000, 1 << 40: 30000} {
		ceiling := time.Duration(ms) * time.Millisecond
		if got := b.Delay(failures, almost); got > ceiling || got < ceiling-time.Microsecond {
			t.Errorf("after %d failures at most %v, want %v", failures, got, ceiling)
		}
		if got := b.Delay(failures, 0.25); got != ceiling/4 {
			t.Errorf("after %d failures a quarter is %v, want %v", failures, got, ceiling/4)
		}
		if got := b.Delay(failures, 0); got != 0 {
			t.Errorf("after %d failures at least %v", failures, got)
		}
	}
}

func TestBackoffAtItsLimits(t *testing.T) {
	for _, v := range []struct{ initial, max, want time.Duration }{
		{time.Second, time.Second, time.Second}, {time.Minute, time.Second, time.Second},
		{0, time.Second, 0}, {time.Second, 0, 0}, {-1, -1, 0},
		{1, 1<<63 - 1, 1<<63 - 1}, {1<<63 - 1, 1<<63 - 1, 1<<63 - 1},
	} {
		b := imclient.NewBackoff(v.initial, v.max)
		got := 2 * b.Delay(1000, 0.5)
		if d := got - v.want; d < -time.Microsecond || d > 2 {
			t.Errorf("NewBackoff(%v, %v) ends at %v, want %v", v.initial, v.max, got, v.want)
		}
	}
	if got := (imclient.Backoff{}).Delay(3, 0.9); got != 0 {
		t.Errorf("the zero value waits %v", got)
	}
}

func TestRegionURL(t *testing.T) {
	for in, want := range map[string]string{
		"china": "https://console.tim.qq.com", "singapore": "https://adminapisgp.im.qcloud.com",
		"seoul": "https://adminapikr.im.qcloud.com", "tokyo": "https://adminapijpn.im.qcloud.com",
		"frankfurt":                  "https://adminapiger.im.qcloud.com",
		"silicon-valley":             "https://adminapiusa.im.qcloud.com",
		"jakarta":                    "https://adminapiidn.im.qcloud.com",
		"https://console.tim.qq.com": "https://console.tim.qq.com",
		"https://h:8443/a/b//":       "https://h:8443/a/b",
		"http://127.0.0.1:8790/":     "http://127.0.0.1:8790", "http://[::1]:1": "http://[::1]:1",
		"HTTPS://h": "https://h",
	} {
		if got, err := imclient.RegionURL(in); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	if len(imclient.Regions()) != 7 {
		t.Errorf("regions %v", imclient.Regions())
	}
	for _, in := range []string{
		"", "tokio", "console.tim.qq.com", "//h", "ftp://h", "https://", "https://:80",
		"https:///p", "https://h?x=1", "https://h?",
		"https://h#f", "https://h#", "https://u@h", "https://u:" + canary + "@h",
		"https://u:" + canary + "@h:port", "https://%zz",
	} {
		if got, err := imclient.RegionURL(in); err == nil || got != "" || leaks(err.Error()) {
			t.Errorf("%s: %q, %v", in, got, err)
		}
	}
	if _, err := imclient.RegionURL("tokio"); !strings.Contains(err.Error(), "tokyo") {
		t.Errorf("does not say which there are: %v", err)
	}
}
