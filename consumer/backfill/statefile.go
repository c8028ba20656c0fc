package backfill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	stateSuffix = ".markread-resume"
	maxState    = 4 << 20 // bytes of a file; a state has 400, and 230 for each input
)

// StateFile is the name of the file in which a run's state is kept; "": it is not kept.
type StateFile string

// StateFileOf is where the state of a run over these inputs is: beside the first. Standard input can't be read again, so there is none.
func StateFileOf(inputs []Input) StateFile {
	for _, in := range inputs {
		if in.stdin != nil {
			return ""
		}
	}
	return StateFile(inputs[0].Name + stateSuffix)
}

// Load reads the state; nil if there is none.
func (file StateFile) Load() (*State, error) {
	info, err := os.Lstat(string(file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, plain(err))
	case !info.Mode().IsRegular(): // a pipe would keep the run waiting, a link leads anywhere
		return nil, fmt.Errorf("%s: it is not a regular file; to begin anew, delete it", file)
	}
	f, err := os.Open(string(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, plain(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, plain(err))
	}
	s, err := parseState(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; to begin anew, delete it", file, err)
	}
	return s, nil
}

// parseState reads the text of a file and checks it.
func parseState(text []byte) (*State, error) {
	if len(text) > maxState {
		return nil, fmt.Errorf("it is not the state of a run: it is longer than %d bytes", maxState)
	}
	s := new(State)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("it is not the state of a run, or is damaged (%w)", err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("it was written by another version of markread, which can go on with it "+
			"(its format is %d, this version reads %d)", s.Version, stateVersion)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return s, nil
}

// save writes the state so that after a crash or a power failure there is either this one or the one before. The folder may belong to others: what is
// written first has a name that nobody can guess, and does not follow a link.
func (file StateFile) save(s State) error {
	if file == "" {
		return nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if len(text) >= maxState {
		return fmt.Errorf("there are too many files (%d) for one run", len(s.Inputs))
	}
	f, err := os.CreateTemp(filepath.Dir(string(file)), "."+filepath.Base(string(file))+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), string(file))
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use to anybody
		return err
	}
	return file.syncFolder()
}

// Remove deletes the state of a run that is done, or has done nothing.
func (file StateFile) Remove() error {
	if file == "" {
		return nil
	}
	if err := os.Remove(string(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return file.syncFolder()
}

// syncFolder makes it last that the file has come or gone.
func (file StateFile) syncFolder() error {
	folder, err := os.Open(filepath.Dir(string(file)))
	if err != nil {
		return err
	}
	_ = folder.Sync() // some file systems have no such thing
	return folder.Close()
}
