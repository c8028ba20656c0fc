package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"markread/worker/console"
)

// The sources of a setting.
const (
	fromDefault     = "default"
	fromFlag        = "flag"
	fromEnvironment = "environment"
	fromFile        = "file"
)

// secretOf has, for a flag, the secret that a command with this flag reads.
var secretOf = map[string]string{
	"sasl-user": SASLPassword, "im-app-id": IMKey, "admin-addr": AdminToken,
	"console-addr": AdminToken,
}

// Settings returns all flags of the parsed command with their values, and where these come from,
// and the secrets that the command reads, without their values. It must be called after the
// command has checked its flags, and looks at the secrets' files at each call.
func (e Environment) Settings(parsed *kong.Context) []console.Setting {
	given := map[*kong.Flag]bool{}
	for _, p := range parsed.Path {
		if p.Flag != nil && !p.Resolved {
			given[p.Flag] = true
		}
	}
	var settings []console.Setting
	seen := map[string]bool{}
	for _, f := range parsed.Flags() {
		if f.Hidden || f.Name == "help" {
			continue
		}
		s := console.Setting{Name: "--" + f.Name, Value: text(f.Target), Source: fromDefault}
		switch {
		case given[f]:
			s.Source = fromFlag
		case e.used[f.Name]:
			s.Source, s.From = fromEnvironment, Variable(f.Name)
		}
		settings = append(settings, s)
		if name := secretOf[f.Name]; name != "" && !seen[name] {
			seen[name] = true // dev has two servers, and one token
			settings = append(settings, e.secretSetting(name))
		}
	}
	return settings
}

func (e Environment) secretSetting(name string) console.Setting {
	s := console.Setting{Name: name, Source: fromDefault, Secret: &console.Secret{}}
	switch path := e.Values[name+"_FILE"]; {
	case path != "":
		s.Source, s.From = fromFile, name+"_FILE"
		if info, err := os.Stat(path); err == nil {
			s.Secret.ChangedAt = new(info.ModTime().UTC())
		}
	case e.Values[name] != "":
		s.Source, s.From = fromEnvironment, name
	default:
		return s
	}
	s.Secret.Set, s.Secret.Source = true, s.Source
	return s
}

// text returns a flag's value as it would be written on the command line; "" for a nil pointer.
func text(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface()) // a Duration has a String method
}
