package cli

import (
	"fmt"
	"io/fs"
	"net"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"markread/cmd/markread/app"
	"markread/cmd/markread/cli/clitest"
	"markread/cmd/markread/cli/config"
	"markread/worker/console"
)

// The files in deploy must match the program: their variables exist, their values are accepted, and
// their timeouts, ports and paths are correct. deploy/check runs the tools that read them.

const (
	envFile   = "markread.env"
	unitFile  = "systemd/markread.service"
	podsFile  = "kubernetes/deployment.yaml"
	podsEnv   = "kubernetes/worker.env"
	composing = "compose.yaml"
	imageFile = "Dockerfile"
)

// parseDeployed checks that run accepts an environment, except for files of secrets and CAs, which
// don't exist here.
func parseDeployed(t *testing.T, where string, env []string) *runCommand {
	t.Helper()
	env = slices.Clone(env)
	for i, pair := range env {
		switch name, _, _ := strings.Cut(pair, "="); {
		case strings.HasSuffix(name, "_FILE"):
			env[i] = name + "=" + clitest.File(t, "secret")
		case name == "MARKREAD_TLS_CA":
			server := httptest.NewTLSServer(nil)
			server.Close()
			env[i] = name + "=" + clitest.File(t, pemOf(server.Certificate()))
		}
	}
	p := &process{env: config.NewEnvironment(env)}
	selected, err := p.parse([]string{"run"})
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	c := selected.(*runCommand)
	if err := c.validate(p.env); err != nil {
		t.Errorf("%s: %v", where, err)
	}
	if _, err := c.IMFlags.Client(p.env, 1); err != nil {
		t.Errorf("%s: %v", where, err)
	}
	if unknown := p.env.Unknown(); len(unknown) > 0 {
		t.Errorf("%s: nothing reads %v", where, unknown)
	}
	return c
}

// The example has every variable of run, shows the defaults, and is accepted unchanged.
func TestDeployEnvironmentFile(t *testing.T) {
	set, commented := settings(t, envFile)
	parseDeployed(t, envFile, set)
	shown := map[string]string{}
	for _, pair := range slices.Concat(set, commented) {
		name, value, _ := strings.Cut(pair, "=")
		if _, twice := shown[name]; twice {
			t.Errorf("%s has %s twice", envFile, name)
		}
		shown[name] = value
	}
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, secret := range []string{config.SASLPassword, config.IMKey, config.AdminToken} {
		want[secret], want[secret+"_FILE"] = "", ""
	}
	for _, command := range parser.Model.Children {
		for _, f := range command.Flags {
			if command.Name == "run" && config.IsConfiguration(f) {
				want[config.Variable(f.Name)] = defaultOf(f)
			}
		}
	}
	for name, value := range want {
		got, ok := shown[name]
		if !ok {
			t.Errorf("%s lacks %s", envFile, name)
		} else if slices.Contains(commented, name+"="+got) && got != value {
			t.Errorf("%s shows %q for the default of %s, which is %q", envFile, got, name, value)
		}
	}
	for name := range shown {
		if _, ok := want[name]; !ok {
			t.Errorf("%s has %s, which run does not read", envFile, name)
		}
	}
	for _, pair := range set {
		if name, _, _ := strings.Cut(pair, "="); want[name] != "" {
			t.Errorf("%s sets %s, which has a default", envFile, name)
		}
	}
}

// defaultOf returns a flag's default as a value for its variable.
func defaultOf(f *kong.Flag) string {
	switch f.Target.Kind() {
	case reflect.Bool:
		return "false"
	case reflect.Pointer:
		return f.PlaceHolder // its default depends on other flags
	}
	return f.Default
}

// No file mentions a variable that does not exist. TestDocsNames checks the documents.
func TestDeployVariables(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	known := config.Variables(parser.Model)
	err = fs.WalkDir(os.DirFS(filepath.Join(repository, "deploy")), ".",
		func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path.Ext(name) == ".md" {
				return err
			}
			for _, m := range regexp.MustCompile(`MARKREAD_[A-Z_]*[A-Z]`).
				FindAllString(readDeployed(t, name), -1) {
				if !known[m] {
					t.Errorf("deploy/%s mentions %s, which nothing reads", name, m)
				}
			}
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
}

// composeFile is the part of compose.yaml that these tests check.
type composeFile struct {
	Services map[string]struct {
		Image           string
		Command         []string
		Environment     map[string]string
		Ports           []string
		StopGracePeriod string `json:"stop_grace_period"`
	}
}

// podFile is the part of deployment.yaml that these tests check.
type podFile struct {
	Spec struct {
		Template struct {
			Metadata struct{ Annotations map[string]string }
			Spec     struct {
				TerminationGracePeriodSeconds int
				SecurityContext               struct{ RunAsUser, FSGroup int }
				Containers                    []struct {
					EnvFrom []struct{ ConfigMapRef struct{ Name string } }
					Env     []struct{ Name, Value string }
					Ports   []struct{ ContainerPort int }

					StartupProbe, LivenessProbe, ReadinessProbe probe

					Resources    struct{ Limits struct{ Memory string } }
					VolumeMounts []struct{ MountPath, SubPath string }
				}
				Volumes []struct{ Secret struct{ SecretName string } }
			}
		}
	}
}

type probe struct {
	HTTPGet struct{ Path string }
}

// defaults returns the defaults of run.
func defaults(t *testing.T) *runCommand {
	t.Helper()
	return parseRun(t, nil, "--brokers", "k:1", "--im-app-id", "7")
}

// The workers of compose.yaml and of Kubernetes start with their environment, and find the sandbox
// and the secrets.
func TestDeployConfigurations(t *testing.T) {
	compose := decodeDeployed[composeFile](t, composing)
	workers := 0
	for name, s := range compose.Services {
		if !slices.Equal(s.Command, []string{"run"}) {
			continue
		}
		workers++
		var env []string
		for k, v := range s.Environment {
			env = append(env, k+"="+v)
		}
		c := parseDeployed(t, composing+", "+name, env)
		if c.IMAppID != app.LocalAppID || s.Environment[config.IMKey] != app.LocalKey ||
			!strings.Contains(readDeployed(t, composing),
				"Bearer "+s.Environment[config.AdminToken]+"'") {
			t.Errorf("%s, %s: app, key or token differs from the sandbox's, or from the example's",
				composing, name)
		}
	}
	if workers != 2 {
		t.Errorf("%s has %d workers", composing, workers)
	}
	if kafka := regexp.MustCompile(`<kafka.version>(.*)</kafka.version>`).
		FindStringSubmatch(readDeployed(t, "kafka/pom.xml")); kafka == nil {
		t.Error("kafka/pom.xml has no version")
	} else if image := "apache/kafka:" + kafka[1]; compose.Services["kafka"].Image != image ||
		compose.Services["traffic"].Image != image {
		t.Errorf("%s: Kafka's image is not %s, as in kafka/pom.xml", composing, image)
	}

	set, commented := settings(t, podsEnv)
	parseDeployed(t, podsEnv, set)
	parseDeployed(t, podsEnv+" with all that is commented out", slices.Concat(set, commented))
	pod := decodeDeployed[podFile](t, podsFile).Spec.Template.Spec
	secret := decodeDeployed[struct {
		Metadata   struct{ Name string }
		StringData map[string]string
	}](t, "kubernetes/secret.example.yaml")
	kustomization := decodeDeployed[struct {
		ConfigMapGenerator []struct {
			Name string
			Envs []string
		}
	}](t, "kubernetes/kustomization.yaml")
	container := pod.Containers[0]
	mount := container.VolumeMounts[0]
	if mount.SubPath != "" {
		t.Error("a file that is mounted by subPath does not follow a rotated secret")
	}
	if pod.Volumes[0].Secret.SecretName != secret.Metadata.Name {
		t.Errorf("%s mounts the secret %s; the example is %s", podsFile,
			pod.Volumes[0].Secret.SecretName, secret.Metadata.Name)
	}
	for _, pair := range slices.Concat(set, commented) {
		if name, value, _ := strings.Cut(pair, "="); strings.HasSuffix(name, "_FILE") {
			if _, ok := secret.StringData[path.Base(value)]; !ok ||
				path.Dir(value) != mount.MountPath {
				t.Errorf("%s: %s is not a key of the example secret where it is mounted", podsEnv,
					pair)
			}
		}
	}
	if g := kustomization.ConfigMapGenerator[0]; g.Name != container.EnvFrom[0].ConfigMapRef.Name ||
		"kubernetes/"+g.Envs[0] != podsEnv {
		t.Errorf("kustomization.yaml makes %+v, which is not what the pods use", g)
	}
}

// Whatever stops a worker waits longer than a shutdown may take.
func TestDeployStopTimes(t *testing.T) {
	least := defaults(t).DrainTimeout + app.StopGrace
	seconds := decodeDeployed[podFile](t, podsFile).Spec.Template.Spec.TerminationGracePeriodSeconds
	waits := map[string]string{podsFile: fmt.Sprint(seconds, "s"),
		unitFile: unit(t)["TimeoutStopSec"][0]}
	for name, s := range decodeDeployed[composeFile](t, composing).Services {
		if slices.Equal(s.Command, []string{"run"}) {
			waits[composing+", "+name] = s.StopGracePeriod
		}
	}
	for where, wait := range waits {
		if d, err := time.ParseDuration(wait); err != nil || d <= least {
			t.Errorf("%s waits %q for a stop, which may take %s", where, wait, least)
		}
	}
	if got := unit(t)["RestartPreventExitStatus"]; !slices.Equal(got,
		[]string{strconv.Itoa(ExitUsage)}) {
		t.Errorf("%s does not restart after exit status %s; wrong usage is %d", unitFile, got,
			ExitUsage)
	}
}

// Probes use paths that are open to other machines, at the admin server's port, which is the same
// everywhere.
func TestDeployAdminServer(t *testing.T) {
	pods := decodeDeployed[podFile](t, podsFile).Spec.Template
	container := pods.Spec.Containers[0]
	server, err := console.New(console.Options{Addr: "127.0.0.1:0",
		Source:   &fakeWorker{unready: true},
		Gatherer: prometheus.NewRegistry(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		path   string
		status int // of a worker that is alive, but not a member
	}{{container.StartupProbe.HTTPGet.Path, 200}, {container.LivenessProbe.HTTPGet.Path, 200},
		{container.ReadinessProbe.HTTPGet.Path, 503}} {
		answer := httptest.NewRecorder()
		server.Handler().ServeHTTP(answer,
			httptest.NewRequest("GET", "http://10.0.0.7:8780"+p.path, nil))
		if answer.Code != p.status {
			t.Errorf("probe %q: %d, want %d", p.path, answer.Code, p.status)
		}
	}

	_, port, err := net.SplitHostPort(defaults(t).Admin.AdminAddr)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{
		podsFile:               strconv.Itoa(container.Ports[0].ContainerPort),
		podsFile + ", scraped": pods.Metadata.Annotations["prometheus.io/port"],
		imageFile: regexp.MustCompile(`(?m)^EXPOSE (.*)$`).
			FindStringSubmatch(readDeployed(t, imageFile))[1],
	}
	for _, name := range []string{"kubernetes/service.yaml", "kubernetes/networkpolicy.yaml"} {
		// the first line is the request
		got[name] = regexp.MustCompile(`\bport: (\d+)`).FindStringSubmatch(readDeployed(t, name))[1]
	}
	set, _ := settings(t, podsEnv)
	_, got[podsEnv], _ = net.SplitHostPort(parseDeployed(t, podsEnv, set).Admin.AdminAddr)
	for name, s := range decodeDeployed[composeFile](t, composing).Services {
		if slices.Equal(s.Command, []string{"run"}) {
			got[composing+", "+name] = s.Ports[0][strings.LastIndex(s.Ports[0], ":")+1:]
			_, got[composing+", address of "+
				name], _ = net.SplitHostPort(s.Environment["MARKREAD_ADMIN_ADDR"])
		}
	}
	for where, p := range got {
		if p != port {
			t.Errorf("%s has port %s for the admin server's %s", where, p, port)
		}
	}
}

// The image's user is the pods'; the memory limit for Go is below the container's; the image is
// built with a Go version that go.mod allows.
func TestDeployNumbers(t *testing.T) {
	pods := decodeDeployed[podFile](t, podsFile).Spec.Template.Spec
	image := readDeployed(t, imageFile)
	if user := fmt.Sprintf("\nUSER %d:%d\n", pods.SecurityContext.RunAsUser,
		pods.SecurityContext.FSGroup); !strings.Contains(image, user) {
		t.Errorf("%s has no %q", imageFile, user)
	}
	memory := map[string][2]string{podsFile: {"", pods.Containers[0].Resources.Limits.Memory},
		unitFile: {"", unit(t)["MemoryMax"][0]}}
	for _, e := range pods.Containers[0].Env {
		if e.Name == "GOMEMLIMIT" {
			memory[podsFile] = [2]string{e.Value, memory[podsFile][1]}
		}
	}
	for _, e := range unit(t)["Environment"] {
		if value, ok := strings.CutPrefix(e, "GOMEMLIMIT="); ok {
			memory[unitFile] = [2]string{value, memory[unitFile][1]}
		}
	}
	for where, m := range memory {
		soft, err1 := strconv.Atoi(strings.TrimSuffix(m[0], "MiB"))
		// Mi in Kubernetes, M in systemd: both mean 1,024 KiB
		hard, err2 := strconv.Atoi(strings.TrimRight(m[1], "Mi"))
		if err1 != nil || err2 != nil || soft >= hard || soft < hard*3/4 {
			t.Errorf("%s: GOMEMLIMIT %q and the limit %q", where, m[0], m[1])
		}
	}
	mod, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	needed := regexp.MustCompile(`(?m)^go (\d+\.\d+)\.`).FindStringSubmatch(string(mod))[1]
	if !strings.Contains(image, " golang:"+needed+".") {
		t.Errorf("%s does not build with Go %s, which go.mod names", imageFile, needed)
	}
}
