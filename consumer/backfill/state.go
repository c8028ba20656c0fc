package backfill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// State is how far a run got, as it is kept in a file beside the first input.
type State struct {
	Version  int        `json:"version"`
	Began    time.Time  `json:"began"`
	Topic    string     `json:"topic"`
	Brokers  []string   `json:"brokers"`
	ReadTime int64      `json:"read_time"` // of rows that have none
	Rejects  string     `json:"rejects"`   // absolute path; "": none
	Inputs   []Identity `json:"inputs"`
	At       Mark       `json:"at"` // every row before it was rejected, or its conversation is acknowledged with at least its T
}

const (
	stateSuffix  = ".markread-resume"
	stateVersion = 1
)

// ReadUpTo is the read time of rows that have none.
func (s *State) ReadUpTo() string {
	return time.Unix(s.ReadTime, 0).UTC().Format("2006-01-02 15:04:05 MST")
}

// StateFile is where the state of a run over these inputs is; "": nowhere, because standard input can't be read again.
func StateFile(inputs []Input) string {
	for _, in := range inputs {
		if in.stdin != nil {
			return ""
		}
	}
	return inputs[0].Name + stateSuffix
}

// LoadState reads a state; nil if there is none.
func LoadState(file string) (*State, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", file, plain(err))
	}
	defer f.Close()
	s := new(State)
	if err := json.NewDecoder(io.LimitReader(f, 16<<20)).Decode(s); err != nil {
		return nil, fmt.Errorf("%s: it is damaged: delete it to begin anew (%w)", file, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%s: it is of another version of markread: use that one, or delete it to begin anew", file)
	}
	return s, nil
}

// Same reports whether the inputs are those of the state; the error says which is not, and why.
func (s *State) Same(inputs []Input) error {
	if len(inputs) != len(s.Inputs) {
		return fmt.Errorf("there were %d files, and now there are %d: give the same, in the same order", len(s.Inputs), len(inputs))
	}
	for i, in := range inputs {
		was, is := s.Inputs[i], in.Identity
		what := ""
		switch {
		case was.Size != is.Size:
			what = fmt.Sprintf("it had %d bytes, and has %d", was.Size, is.Size)
		case was.SHA256 != is.SHA256:
			what = "its content is another"
		case !was.Modified.Equal(is.Modified):
			what = fmt.Sprintf("it was last written at %s, and now at %s", was.Modified.Format(time.DateTime), is.Modified.Format(time.DateTime))
		default:
			continue
		}
		return &InputError{in.Name, fmt.Errorf("it is not the file of the interrupted run: %s", what)}
	}
	return nil
}

// save writes the state so that after a crash or a power failure there is either this one or the one before.
func (s *State) save(file string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	temporary := file + ".new"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, file); err != nil {
		return err
	}
	return syncFolder(file)
}

// remove deletes a state that is done with.
func (s *State) remove(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncFolder(file)
}

// syncFolder makes it last that a file in the folder has come or gone.
func syncFolder(file string) error {
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	_ = folder.Sync() // some file systems have no such thing
	return folder.Close()
}
