package sandbox

import "time"

// Bounds of the server's memory, whatever its clients do.
const (
	maxAccounts      = 1_000_000 // imported accounts
	maxConversations = 2_000_000 // (account, peer) pairs with a read pointer or unread messages
	maxUnread        = 1_000     // unread messages of a conversation; the newest are kept
	maxUnreadTotal   = 5_000_000 // unread messages of all conversations
	maxArrivals      = 1 << 18   // calls in the log, and the most that a second can count
	maxCodes         = 1_000     // distinct ErrorCodes in Stats
	maxSeenSigs      = 64        // cached UserSigs that need no second verification
	maxKicked        = 10_000    // kicked identifiers
	maxRules         = 1_000     // fault rules

	maxAccountBytes = 32        // of an account id; documented
	maxBodyBytes    = 12 << 10  // of a request; a larger one gets 93000
	maxFaultsBytes  = 1 << 20   // of PUT /sandbox/faults
	maxLoggedBytes  = 64        // of an account in the log, which also keeps malformed ones
	maxLatency      = time.Hour // of a fault's latency
)
