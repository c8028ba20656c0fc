package letters

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"markread/consumer/deadletter"
	"markread/worker/console/respond"
)

// resolution says what resolved a dead letter.
type resolution struct {
	ID string     `json:"id"`
	At *time.Time `json:"at"`
}

// show responds with the document of `markread dead-letters show --json` and more fields.
func (l *Letters) show(w http.ResponseWriter, r *http.Request) (any, error) {
	var request struct {
		ID string `json:"id"`
	}
	if err := respond.ReadJSON(w, r, &request); err != nil {
		return nil, err
	}
	id, ok := deadletter.ParseID(request.ID)
	if !ok {
		return nil, respond.BadRequest("id must be PARTITION:OFFSET, such as 0:17, not "+
			"%.50q", request.ID)
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	if err := take(ctx, l.pages, pageWait); err != nil {
		return nil, err
	}
	defer func() { <-l.pages }()
	store := &deadletter.Store{Topic: l.Topic, Name: l.Name}
	v, err := store.Show(ctx, id, l.MaxReplays)
	if err != nil {
		return nil, err
	}
	others := []Item{}
	for i := range v.Others {
		others = append(others, itemOf(&v.Others[i]))
	}
	body := map[string]any{
		"attempts": v.Attempts, "resolution": nil, "others": others, "more_others": v.More,
		"value_omitted":   v.Omitted, // its size; "": it is not omitted
		"may_be_resolved": store.PartlyRead(id),
		"command":         commandLine("show", []string{id.String()}, l.Flags),
	}
	if v.Resolution != nil {
		body["resolution"] = resolution{v.Resolution.ID.String(), timeOf(v.Resolution.Time)}
	}
	var document map[string]json.RawMessage // raw: a number may be large
	if err := json.Unmarshal(v.AppendJSON(nil, true), &document); err != nil {
		return nil, err
	}
	for name, value := range document {
		body[name] = value
	}
	return body, nil
}
