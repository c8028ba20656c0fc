package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// The loops that one would write by hand. They are plain, but not careless: connections are kept
// alive, responses are checked, offsets are committed once a second. They promise nothing: not the
// order of commits, no retries, no limit in each second.

// body is an event, and a call's body.
type body struct {
	Report   string `json:"Report_Account"`
	Peer     string `json:"Peer_Account"`
	ReadTime string `json:"MsgReadTime"`
}

// poster makes calls.
type poster struct {
	client *http.Client
	url    string
}

func newPoster(j job) *poster {
	transport := &http.Transport{MaxIdleConnsPerHost: j.InFlight}
	return &poster{&http.Client{Transport: transport, Timeout: 5 * time.Second}, j.URL}
}

func (p *poster) post(ctx context.Context, b body) error {
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	url := p.url + "&random=" + strconv.FormatUint(uint64(rand.Uint32()), 10)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err = io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var result struct{ ErrorCode int }
	if err := json.Unmarshal(text, &result); err != nil {
		return err
	}
	if result.ErrorCode != 0 {
		return fmt.Errorf("the server responded %s", text)
	}
	return nil
}

// runKafkaLoop is the role of a loop over a kafka-go Reader.
func runKafkaLoop(ctx context.Context, j job) error {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: j.Brokers, GroupID: j.Group,
		Topic: j.Topic, StartOffset: kafka.FirstOffset, CommitInterval: time.Second,
		MaxBytes: 10 << 20})
	defer reader.Close()
	limit := rate.NewLimiter(rate.Inf, 1)
	if j.Rate > 0 {
		limit.SetLimit(rate.Limit(j.Rate))
	}
	poster, messages := newPoster(j), make(chan kafka.Message)
	group, ctx := errgroup.WithContext(ctx)
	for range j.InFlight {
		group.Go(func() error {
			for m := range messages {
				var b body
				if err := json.Unmarshal(m.Value, &b); err != nil {
					return err
				}
				if err := poster.post(ctx, b); err != nil {
					return err
				}
				if err := reader.CommitMessages(ctx, m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(messages)
		for {
			m, err := reader.FetchMessage(ctx)
			if err != nil {
				return err
			}
			if err := limit.Wait(ctx); err != nil {
				return err
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return group.Wait()
}

// runPostLoop is the role of a loop that makes the calls without Kafka.
func runPostLoop(ctx context.Context, j job) error {
	poster, numbers := newPoster(j), make(chan int)
	group, posting := errgroup.WithContext(ctx)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	for range j.InFlight {
		group.Go(func() error {
			for i := range numbers {
				if err := poster.post(posting, body{account(i), account(i + 1), now}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(numbers)
		for i := range j.Events {
			select {
			case numbers <- i:
			case <-posting.Done():
				return posting.Err()
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	<-ctx.Done() // its CPU is still to be read
	return nil
}

// runFetchLoop is the role of a loop that reads a topic once, one goroutine for each partition, and
// decodes nothing. It prints how long that took.
func runFetchLoop(ctx context.Context, j job, stdout io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	conns := make([]*kafka.Conn, partitions)
	for p := range conns {
		conn, err := kafka.DialLeader(ctx, "tcp", j.Brokers[0], j.Topic, p)
		if err != nil {
			return err
		}
		defer conn.Close()
		conns[p] = conn
	}
	began := time.Now()
	for _, conn := range conns {
		group.Go(func() error { return fetchAll(conn) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "fetched in %.6f s\n", time.Since(began).Seconds())
	return nil
}

func fetchAll(conn *kafka.Conn) error {
	first, last, err := conn.ReadOffsets()
	if err != nil {
		return err
	}
	for offset := first; offset < last; {
		if _, err := conn.Seek(offset, kafka.SeekAbsolute|kafka.SeekDontCheck); err != nil {
			return err
		}
		batch := conn.ReadBatch(1, 10<<20)
		for err = error(nil); err == nil; {
			_, err = batch.ReadMessage()
		}
		offset = batch.Offset()
		if err := batch.Close(); err != nil {
			return err
		}
	}
	return nil
}
