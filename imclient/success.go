package imclient

// isSuccess reports whether a body is the usual response to a call that succeeded: a JSON object of
// ErrorCode, which is 0, ErrorInfo and ActionStatus, each at most once, in any order, with strings
// that have no escapes. It saves the cost of parseResult, which accepts each such body and many
// others: false means only that parseResult must decide.
func isSuccess(body []byte) bool {
	rest := jsonTokens(body)
	if len(body) > maxBody || !rest.take('{') {
		return false
	}
	var code, info, status bool
	for {
		name, ok := rest.text()
		if !ok || !rest.take(':') {
			return false
		}
		switch string(name) {
		case "ErrorCode":
			ok, code = !code && rest.take('0'), true
		case "ErrorInfo":
			ok, info = !info && rest.takeText(), true
		case "ActionStatus":
			ok, status = !status && rest.takeText(), true
		default:
			return false
		}
		switch {
		case !ok:
			return false
		case !rest.take(','):
			return code && rest.take('}') && rest.atEnd()
		}
	}
}

// jsonTokens is the rest of a JSON text. Its methods skip white space first.
type jsonTokens []byte

// atEnd reports whether nothing is left.
func (t *jsonTokens) atEnd() bool {
	for len(*t) > 0 {
		switch (*t)[0] {
		case ' ', '\t', '\r', '\n':
			*t = (*t)[1:]
		default:
			return false
		}
	}
	return true
}

// take removes b, if it is next.
func (t *jsonTokens) take(b byte) bool {
	if t.atEnd() || (*t)[0] != b {
		return false
	}
	*t = (*t)[1:]
	return true
}

// text removes and returns a string of printable ASCII without a backslash, if it is next.
func (t *jsonTokens) text() ([]byte, bool) {
	if !t.take('"') {
		return nil, false
	}
	for i, b := range *t {
		switch {
		case b == '"':
			text := (*t)[:i]
			*t = (*t)[i+1:]
			return text, true
		case b < ' ', b > '~', b == '\\':
			return nil, false
		}
	}
	return nil, false
}

// takeText removes a string like text's, if it is next.
func (t *jsonTokens) takeText() bool {
	_, ok := t.text()
	return ok
}
