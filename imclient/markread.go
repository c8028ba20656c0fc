package imclient

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
)

// Read is the request that marks all that Peer wrote to Report up to Time as read.
type Read struct {
	Report string // the account that has read
	Peer   string // the other account of the conversation
	Time   int64  // seconds since 1970, at least 1
}

// MarshalJSON returns the body that the API expects.
func (r Read) MarshalJSON() ([]byte, error) { return r.appendJSON(nil), nil }

// appendJSON appends the body to dst: three strings. MsgReadTime is a decimal string, as
// documented, and never omitted.
func (r Read) appendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"Report_Account":`...), r.Report)
	dst = appendString(append(dst, `,"Peer_Account":`...), r.Peer)
	dst = strconv.AppendInt(append(dst, `,"MsgReadTime":"`...), r.Time, 10)
	return append(dst, `"}`...)
}

// appendString appends text to dst as json.Marshal encodes it. Accounts hardly ever need escapes.
func appendString(dst []byte, text string) []byte {
	for i := range len(text) {
		switch b := text[i]; {
		case b < ' ', b > '~', b == '"', b == '\\', b == '<', b == '>', b == '&':
			escaped, _ := json.Marshal(text) // a string has no error
			return append(dst, escaped...)
		}
	}
	return append(append(append(dst, '"'), text...), '"')
}

// MarkRead makes one call of v4/openim/admin_set_msg_read. Its error is nil, an *Error,
// context.Cause(ctx) or the lease's error: see Post.
func (c *Client) MarkRead(ctx context.Context, r Read) error {
	if r.Report == "" || r.Peer == "" || r.Time < 1 {
		// A server may treat an invalid time as absent, and an absent one as now.
		return c.fail(CommandMarkRead, &Error{
			Class: Rejected, Label: LabelRequest,
			Err: errors.New("both accounts and a positive time are required"),
		})
	}
	e := new(exchange)
	if err := c.send(ctx, e, CommandMarkRead, r.appendJSON(e.request[:0])); err != nil {
		return err
	}
	if e.status == http.StatusOK && isSuccess(e.body) {
		c.clock.observe(serverDate(e.header))
		c.signer.accept(e.sig)
		return nil
	}
	_, err := c.classify(ctx, e)
	return err
}
