package deploy_test

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const (
	dashboardFile      = "grafana/markread.json"
	dashboardSelection = `{job="$job",namespace=~"$namespace"` // what every selector begins with
)

var (
	// panelTypes are the types in use, with the models of their options.
	panelTypes = []variants.PanelcfgConfig{stat.VariantConfig(), statetimeline.VariantConfig(),
		table.VariantConfig(), timeseries.VariantConfig()}
	grafanaVariables = []string{"__rate_interval", "__range", "__value", "__all"}

	dashboardSelectors = regexp.MustCompile(`\b((?:markread|process|go)_\w+|up)\b(\S*)`)
	dashboardVariables = regexp.MustCompile(`\$\{?(\w+)`)
	runbookLinks       = regexp.MustCompile(`RUNBOOK\.md(#(?:[a-z-]+|\$\{__value\.raw\}))?`)
)

// dashboardModel is Grafana's model of a dashboard.
//
//lint:ignore SA1019 Grafana 11 does not know the second one; later releases read both
type dashboardModel = dashboard.Dashboard

// sdkError returns err, except for the empty list that the SDK returns if nothing is wrong.
func sdkError(err error) error {
	if list := (cog.BuildErrors)(nil); errors.As(err, &list) && len(list) == 0 {
		return nil
	}
	return err
}

// dashboardPart is what the SDK's dashboard does not decode strictly (v0.0.22): each panel's
// queries, defaults and overrides.
type dashboardPart struct {
	Type        string            `json:"type"`
	Targets     []json.RawMessage `json:"targets"`
	FieldConfig json.RawMessage   `json:"fieldConfig"`
	Panels      []dashboardPart   `json:"panels"`
}

// decodeDashboard decodes a dashboard with Grafana's own model. An unknown field, a missing one, or
// one of another type is an error.
func decodeDashboard(text []byte) (*dashboardModel, error) {
	for _, panel := range panelTypes { // options of other types would not be checked
		cog.NewRuntime().RegisterPanelcfgVariant(panel)
	}
	d, whole := new(dashboardModel), dashboardPart{}
	err := errors.Join(
		sdkError(new(dashboardModel).UnmarshalJSONStrict(text)), // it leaves no panels (v0.0.22)
		json.Unmarshal(text, d), json.Unmarshal(text, &whole))
	if err != nil {
		return nil, err
	}
	return d, errors.Join(d.Validate(), decodePart(whole))
}

func decodePart(p dashboardPart) error {
	var all []error
	for _, inner := range p.Panels {
		all = append(all, decodePart(inner))
	}
	for _, target := range p.Targets {
		all = append(all, sdkError(new(prometheus.Dataquery).UnmarshalJSONStrict(target)))
	}
	if p.FieldConfig != nil {
		all = append(all, decodeFieldConfig(p.Type, p.FieldConfig), decodeOverrides(p))
	}
	return errors.Join(all...)
}

func decodeFieldConfig(panelType string, text json.RawMessage) error {
	panel, err := json.Marshal(map[string]any{"type": panelType, "fieldConfig": text})
	return errors.Join(err,
		sdkError(new(dashboard.FieldConfigSource).UnmarshalJSONStrict(text)),
		sdkError(new(dashboard.Panel).UnmarshalJSONStrict(panel))) // what is custom
}

// decodeOverrides decodes a panel's overrides in place of its defaults: the model of an override
// knows only that it has a name and a value.
func decodeOverrides(p dashboardPart) error {
	config := dashboard.FieldConfigSource{}
	if err := json.Unmarshal(p.FieldConfig, &config); err != nil {
		return err
	}
	for _, override := range config.Overrides {
		defaults, custom := map[string]any{}, map[string]any{}
		if p.Type == "table" { // required
			custom["align"], custom["inspect"] = "auto", false
		}
		for _, property := range override.Properties {
			if name, is := strings.CutPrefix(property.Id, "custom."); is {
				custom[name] = property.Value
			} else if property.Id != "links" { // the model has the fields of a dashboard's links here
				defaults[property.Id] = property.Value
			}
		}
		defaults["custom"] = custom
		text, err := json.Marshal(map[string]any{"defaults": defaults, "overrides": []any{}})
		if err = errors.Join(err, decodeFieldConfig(p.Type, text)); err != nil {
			return err
		}
	}
	return nil
}

// panelGroups returns the panels, without rows: those of the page, and those of each collapsed row.
func panelGroups(d *dashboardModel) [][]dashboard.Panel {
	all := [][]dashboard.Panel{nil}
	for _, p := range d.Panels {
		if p.RowPanel != nil {
			all = append(all, p.RowPanel.Panels)
		} else {
			all[0] = append(all[0], *p.Panel)
		}
	}
	return all
}

func readDashboard(t *testing.T) (string, *dashboardModel) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	d, err := decodeDashboard(text)
	if err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	return string(text), d
}

func TestDashboardPanels(t *testing.T) {
	_, d := readDashboard(t)
	ids, titles := map[uint32]bool{}, map[string]bool{}
	for _, p := range d.Panels {
		if p.RowPanel != nil {
			ids[p.RowPanel.Id] = true
		}
	}
	rows, panels := len(ids), 0
	for _, group := range panelGroups(d) {
		for i, p := range group {
			if panels++; p.Id == nil || p.Title == nil || p.GridPos == nil || p.Datasource == nil {
				t.Fatalf("panel %d of its group lacks id, title, gridPos or datasource", i+1)
			}
			ids[*p.Id], titles[*p.Title] = true, true
			checkPanel(t, p)
			for _, other := range group[:i] {
				if a, b := p.GridPos, other.GridPos; a.X < b.X+b.W && b.X < a.X+a.W &&
					a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%q overlaps %q", *p.Title, *other.Title)
				}
			}
		}
	}
	if len(ids) != rows+panels || len(titles) != panels {
		t.Errorf("%d panels and %d rows have %d ids and %d titles", panels, rows, len(ids),
			len(titles))
	}
}

func queryOf(t *testing.T, target variants.Dataquery) prometheus.Dataquery {
	t.Helper()
	text, err := json.Marshal(target)
	query := prometheus.Dataquery{}
	if err = errors.Join(err, json.Unmarshal(text, &query)); err != nil {
		t.Fatal(err)
	}
	return query
}

// checkPanel checks what somebody at night needs of a panel: what it means, what to do, a unit, and
// names of its lines. All of its queries are of the selected job.
func checkPanel(t *testing.T, p dashboard.Panel) {
	t.Helper()
	if !slices.ContainsFunc(panelTypes, func(panel variants.PanelcfgConfig) bool {
		return panel.Identifier == p.Type
	}) {
		t.Errorf("%q is of type %s, whose options are not checked", *p.Title, p.Type)
	}
	if p.Description == nil || !runbookLinks.MatchString(*p.Description) {
		t.Errorf("%q has no description with a link to the runbook", *p.Title)
	}
	if unit := p.FieldConfig.Defaults.Unit; unit == nil || *unit == "" {
		t.Errorf("%q has no unit", *p.Title)
	}
	if *p.Datasource.Uid != "${datasource}" || p.GridPos.X+p.GridPos.W > 24 {
		t.Errorf("%q has data source %s and columns %d to %d", *p.Title, *p.Datasource.Uid,
			p.GridPos.X, p.GridPos.X+p.GridPos.W)
	}
	for _, target := range p.Targets {
		query := queryOf(t, target)
		checkSelectors(t, *p.Title, query.Expr)
		isTable := query.Format != nil && *query.Format == prometheus.PromQueryFormatTable
		instant := query.Instant != nil && *query.Instant
		switch {
		case isTable != (p.Type == "table"):
			t.Errorf("%q is a %s, with a table: %v", *p.Title, p.Type, isTable)
		case instant != (p.Type == "table" || p.Type == "stat"):
			t.Errorf("%q is a %s, with an instant query: %v", *p.Title, p.Type, instant)
		case !isTable && (query.LegendFormat == nil || *query.LegendFormat == ""):
			t.Errorf("%q has no legend for %s", *p.Title, query.Expr)
		}
	}
}

func checkSelectors(t *testing.T, where, expr string) {
	t.Helper()
	found := dashboardSelectors.FindAllStringSubmatch(expr, -1)
	if found == nil {
		t.Errorf("%q has no selector: %s", where, expr)
	}
	for _, selector := range found {
		if !strings.HasPrefix(selector[2], dashboardSelection) {
			t.Errorf("%q: %s must be followed by %s, else consumer groups are mixed: %s", where,
				selector[1], dashboardSelection, expr)
		}
	}
}

func TestDashboardAnnotations(t *testing.T) {
	_, d := readDashboard(t)
	for _, a := range d.Annotations.List {
		if a.BuiltIn == nil {
			checkSelectors(t, a.Name, *a.Expr)
		}
	}
}

func TestDashboardVariables(t *testing.T) {
	text, d := readDashboard(t)
	used := map[string]bool{}
	for _, m := range dashboardVariables.FindAllStringSubmatch(text, -1) {
		used[m[1]] = true
	}
	for _, name := range grafanaVariables {
		delete(used, name)
	}
	for _, v := range d.Templating.List {
		if !used[v.Name] {
			t.Errorf("the variable %s is not used", v.Name)
		}
		delete(used, v.Name)
	}
	for name := range used {
		t.Errorf("$%s is used, and not defined", name)
	}
}

func TestDashboardRunbookLinks(t *testing.T) {
	text, _ := readDashboard(t)
	runbook, err := os.ReadFile("RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{"#${__value.raw}": true} // the reason of a hold
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllSubmatch(runbook, -1) {
		anchors["#"+strings.ReplaceAll(strings.ToLower(string(m[1])), " ", "-")] = true
	}
	for _, m := range runbookLinks.FindAllStringSubmatch(text, -1) {
		if !anchors[m[1]] {
			t.Errorf("RUNBOOK.md%s is no section of the runbook", m[1])
		}
	}
}

// A misspelt field must not get lost, wherever it is.
func TestDashboardMisspelt(t *testing.T) {
	text, _ := readDashboard(t)
	for _, field := range []string{"graphTooltip", "gridPos", "refId", "legendFormat", "noValue",
		"drawStyle", "showLegend", "cellHeight", "rowHeight", "custom.lineStyle", "iconColor",
		"allValue", "useValueForTime", "textMode", "stacking", "mappings"} {
		before := `"` + field + `"`
		if !strings.Contains(text, before) {
			t.Errorf("the dashboard has no %s", before)
		}
		wrong := strings.Replace(text, before, `"`+field+`x"`, 1)
		if _, err := decodeDashboard([]byte(wrong)); err == nil {
			t.Errorf("%s misspelt as %sx is accepted", field, field)
		}
	}
}
