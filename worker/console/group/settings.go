package group

import (
	"cmp"
	"slices"

	"markread/worker/console"
)

// Settings returns the console's own settings, with the values of the workers, followed by those
// that only workers have.
func (g *Group) Settings(own []console.Setting) console.Settings {
	g.mu.Lock()
	rows := g.rows
	g.mu.Unlock()
	s := console.Settings{Workers: []string{}, Settings: append([]console.Setting{}, own...)}
	index := map[string]int{}
	for i := range s.Settings {
		index[s.Settings[i].Name] = i
	}
	for _, row := range rows {
		if row.Sample == nil {
			continue
		}
		s.Workers = append(s.Workers, row.Name)
		for name, value := range row.Sample.Settings {
			name = "--" + name
			i, known := index[name]
			if !known {
				i = len(s.Settings)
				index[name] = i
				s.Settings = append(s.Settings, console.Setting{Name: name, Value: value})
			}
			setting := &s.Settings[i]
			if setting.Values == nil {
				setting.Values = map[string]string{}
			}
			setting.Values[row.Name] = value
		}
	}
	for i := range s.Settings {
		setting := &s.Settings[i]
		setting.Differs = differs(*setting, len(s.Workers), i < len(own))
		if setting.Differs && i >= len(own) {
			setting.Value = "" // it would be any worker's
		}
	}
	slices.SortFunc(s.Settings[len(own):],
		func(a, b console.Setting) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

// differs reports whether the workers have different values, or some have none, or the console's
// own value is another one.
func differs(s console.Setting, workers int, own bool) bool {
	distinct := map[string]bool{}
	for _, v := range s.Values {
		distinct[v] = true
	}
	return len(distinct) > 1 || len(s.Values) > 0 && (len(s.Values) < workers ||
		own && !distinct[s.Value])
}
