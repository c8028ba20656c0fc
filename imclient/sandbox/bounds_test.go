package sandbox

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"markread/imclient"
)

// The bounds are too large to be reached through calls: these tests reach them one layer below.

func TestJournalIsBounded(t *testing.T) { synctest.Test(t, testJournalIsBounded) }

func testJournalIsBounded(t *testing.T) { // all in the same instant
	j := newJournal()
	const more = 1000
	for i := range maxArrivals + more {
		number, inSecond := j.arrive()
		if inSecond != min(i+1, maxArrivals) {
			t.Fatalf("arrival %d: %d in its second", i, inSecond)
		}
		j.record(number, readRequest{report: fmt.Sprint(i), encoding: EncodingText}, true, "")
		j.recordResponse(number, 200, i)
		j.finish()
	}
	j.recordResponse(1, 500, 0) // long forgotten
	j.record(more, readRequest{report: "late"}, false, "")
	log := j.newest(maxArrivals + more)
	if len(log) != maxArrivals || log[0].Report != fmt.Sprint(more) ||
		log[maxArrivals-1].Report != fmt.Sprint(maxArrivals+more-1) {
		t.Errorf("the log has %d calls, from %q to %q", len(log), log[0].Report,
			log[len(log)-1].Report)
	}
	for _, a := range log {
		if a.Status != 200 || !a.Applied {
			t.Fatalf("a late note of a forgotten call changed %+v", a)
		}
	}
	stats := j.stats()
	if stats.Forgotten != more || stats.Calls != maxArrivals+more {
		t.Errorf("stats: %d calls, %d forgotten", stats.Calls, stats.Forgotten)
	}
	if len(stats.Codes) != maxCodes+1 || stats.Codes[-1] == 0 {
		t.Errorf("%d codes", len(stats.Codes))
	}
	time.Sleep(time.Second)
	if _, inSecond := j.arrive(); inSecond != 1 {
		t.Errorf("a second later: %d in the second, want 1", inSecond)
	}
}

func TestStoreIsBounded(t *testing.T) {
	s := newStore(true, "administrator")
	s.unread = maxUnreadTotal
	c := conversation{"a", "b"}
	if err := s.deliver(c, 1); !errors.Is(err, errFull) {
		t.Errorf("a message too many: %v", err)
	}
	s.unread = 0
	if err := s.markRead(c, 5); err != nil {
		t.Fatal(err)
	}
	s.maxConversations = 1
	if err := s.markRead(conversation{"c", "d"}, 1); !errors.Is(err, errFull) {
		t.Errorf("a conversation too many: %v", err)
	}
	if err := s.deliver(conversation{"c", "d"}, 1); !errors.Is(err, errFull) {
		t.Errorf("a message of a conversation too many: %v", err)
	}
	if err := errors.Join(s.markRead(c, 9), s.deliver(c, 10)); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := s.add("7"); err != nil {
		t.Fatal(err)
	}
	s.maxAccounts = 1
	if err := s.add("one-more"); !errors.Is(err, errFull) {
		t.Errorf("an account too many: %v", err)
	}
	if err := s.add("7"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

func TestSignaturesAreBounded(t *testing.T) {
	s := newSignatures(secretForTest)
	now := time.Now()
	for i := range 3 * maxSeenSigs {
		if a := s.check(signForTest(t, now.Add(time.Duration(i)*time.Second)), 1, "a",
			now); !a.ok() {
			t.Fatal(a)
		}
	}
	if len(s.seen) != maxSeenSigs {
		t.Errorf("%d signatures are kept", len(s.seen))
	}
	for i := range maxKicked {
		if err := s.kick(fmt.Sprint(i), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.kick("one-more", now); !errors.Is(err, errFull) {
		t.Errorf("a kick too many: %v", err)
	}
	if err := s.kick("7", now); err != nil {
		t.Errorf("again: %v", err)
	}
}

var secretForTest = imclient.NewSecret("k")

func signForTest(t *testing.T, at time.Time) string {
	sig, err := imclient.Sign(1, "a", secretForTest, at, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}
