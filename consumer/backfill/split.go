package backfill

import (
	"bytes"
	"errors"
	"fmt"
)

// split returns a row's fields, which are valid until the next call.
func (t *table) split(text []byte) ([][]byte, error) {
	t.fields = t.fields[:0]
	if bytes.IndexByte(text, '"') < 0 {
		for {
			i := bytes.IndexByte(text, ',')
			if i < 0 {
				t.fields = append(t.fields, text)
				return t.fields, nil
			}
			t.fields = append(t.fields, text[:i])
			text = text[i+1:]
		}
	}
	for more := true; more; {
		var field []byte
		var err error
		if field, text, more, err = cutField(text); err != nil {
			return nil, errQuote(fmt.Errorf("field %d %w", len(t.fields)+1, err))
		}
		t.fields = append(t.fields, field)
	}
	return t.fields, nil
}

// cutField cuts the first field off a row; more: a comma follows. Spaces and tabs around the quotes
// of a field are not part of it: people and programs write them behind commas. encoding/csv refuses
// them, or takes those off that belong to a field without quotes.
func cutField(text []byte) (field, rest []byte, more bool, err error) {
	quoted := bytes.TrimLeft(text, " \t")
	if len(quoted) == 0 || quoted[0] != '"' {
		field, rest, more = bytes.Cut(text, []byte{','})
		if bytes.IndexByte(field, '"') >= 0 {
			err = errors.New("has a quote, but does not begin with one")
		}
		return field, rest, more, err
	}
	end := 1 // behind the closing quote, in the end
	for {
		i := bytes.IndexByte(quoted[end:], '"')
		if i < 0 {
			return nil, nil, false, errors.New("has no closing quote")
		}
		if end += i + 1; end == len(quoted) || quoted[end] != '"' {
			break
		}
		end++ // two are one of the field
	}
	if field = quoted[1 : end-1]; bytes.IndexByte(field, '"') >= 0 {
		field = bytes.ReplaceAll(field, []byte(`""`), []byte(`"`))
	}
	if rest = bytes.TrimLeft(quoted[end:], " \t"); len(rest) == 0 {
		return field, nil, false, nil
	}
	if rest[0] != ',' {
		return nil, nil, false, errors.New("goes on behind its closing quote")
	}
	return field, rest[1:], true, nil
}

func errQuote(err error) error {
	return &badRow{fmt.Errorf("not a row of CSV: a quote is missing, or one too many: %w", err)}
}
