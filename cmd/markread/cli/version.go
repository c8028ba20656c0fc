package cli

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"markread/cmd/markread/cli/config"
)

// The linker of a release sets these (-ldflags "-X markread/cmd/markread/cli.version=v1.2.3");
// otherwise build reads them from the build information that the Go toolchain adds.
var version, commit string

type versionCommand struct{}

func (*versionCommand) Help() string {
	return `Include it in bug reports.

    markread version`
}

func (*versionCommand) run(_ context.Context, p *process) error {
	p.begin(config.LogFlags{LogLevel: "info"})
	v, c := build()
	_, err := fmt.Fprintf(p.stdout, "markread %s\ncommit   %s\ngo       %s %s/%s\n", v, c,
		runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// build returns the version and the commit of this binary; "unknown" if the binary lacks them.
func build() (v, c string) {
	v, c = version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		v = cmp.Or(v, info.Main.Version)
		dirty := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && commit == "":
				c = s.Value
			case s.Key == "vcs.modified" && s.Value == "true" && commit == "":
				dirty = ", with changes"
			}
		}
		if c != "" {
			c += dirty
		}
	}
	return cmp.Or(v, "unknown"), cmp.Or(c, "unknown")
}
