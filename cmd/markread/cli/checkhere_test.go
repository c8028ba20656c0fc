package cli

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"markread/worker/preflight"
)

// A worker runs here already, or another program has the port; files with secrets that everybody may read.
func TestCheckOfThisMachine(t *testing.T) {
	noLeaks(t)
	g := newGround(t, nil)
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	worker, admin := beginWorkerAs(t, g)
	open := file(t, testKey)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	group := file(t, testKey)
	if err := os.Chmod(group, 0o640); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env, args []string
		want      preflight.Finding
	}{
		"a worker":      {g.env, []string{"--admin-addr", admin}, preflight.Warning("admin server", "", "a worker runs here already", "--admin-addr")},
		"another":       {g.env, []string{"--admin-addr", strings.TrimPrefix(taken.URL, "http://")}, preflight.Wrong("admin server", "", "taken by another program", "--admin-addr")},
		"hangs":         {g.env, []string{"--admin-addr", mute(t)}, preflight.Wrong("admin server", "", "does not answer (a worker that hangs?)", "--admin-addr")},
		"no address":    {g.env, []string{"--admin-addr", "192.0.2.1:8780"}, preflight.Wrong("admin server", "", "can't listen on 192.0.2.1:8780", "--admin-addr")},
		"open key":      {[]string{g.env[1], "MARKREAD_IM_KEY_FILE=" + open}, nil, preflight.Warning("secret file", "MARKREAD_IM_KEY_FILE", "mode 0644", "chmod o= "+open)},
		"a group's key": {[]string{g.env[1], "MARKREAD_IM_KEY_FILE=" + group}, nil, preflight.Good("secret file", "MARKREAD_IM_KEY_FILE", "not open")},
		"closed key":    {[]string{g.env[1], "MARKREAD_IM_KEY_FILE=" + file(t, testKey)}, nil, preflight.Good("secret file", "MARKREAD_IM_KEY_FILE", "not open")},
		"another rate":  {g.env, []string{"--rate", "100"}, preflight.Warning("group", "markread", "go by 200 calls a second, this configuration by 100", "--rate")},
		"other topics":  {g.env, []string{"--backfill-topic="}, preflight.Warning("group", "markread", "mark-read-backfill", "--topic and --backfill-topic")},
		"it does agree": {g.env, nil, preflight.Good("group", "markread", "1 worker runs, 200 calls a second for all")},
	} {
		t.Run(name, func(t *testing.T) {
			r := checked(t, c.env, append(slices.Clip(g.args), c.args...)...)
			if !slices.ContainsFunc(r.Checks, func(f preflight.Finding) bool {
				return f.Result == c.want.Result && f.Check == c.want.Check && f.Subject == c.want.Subject && strings.Contains(f.Found, c.want.Found) && strings.Contains(f.Do, c.want.Do)
			}) {
				t.Errorf("%+v, want %+v", r.Checks, c.want)
			}
			if bad := len(found(r, preflight.IsWrong)) + len(found(r, preflight.IsWarning)); bad > 1 || bad == 1 && c.want.Result == preflight.IsOK {
				t.Errorf("%+v", r.Checks)
			}
		})
	}
	if status := worker.stopped(); status != ExitOK {
		t.Errorf("the worker: exit status %d", status)
	}
}

// beginWorkerAs begins a worker with the same configuration, and waits until it has its partitions.
func beginWorkerAs(t *testing.T, g *ground) (*running, string) {
	t.Helper()
	r := begin(t, g.env, append([]string{"run"}, g.args[1:]...)...)
	admin := r.found(t, `"addr":"(127\.0\.0\.1:\d+)"`)
	until(t, "the worker has partitions", func() bool { return strings.Contains(fetch(t, "http://"+admin+"/readyz"), `"ready":true`) })
	until(t, "the group is stable", func() bool {
		info := g.cluster.GroupInfo("markread")
		return info != nil && info.State == "Stable"
	})
	return r, admin
}

// mute is the address of something that takes connections and says nothing.
func mute(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}
