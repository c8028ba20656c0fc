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

const stateSuffix = ".markread-resume"

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
	f, err := os.Open(string(file))
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
