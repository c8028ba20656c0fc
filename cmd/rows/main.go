// Command rows generates input for `markread backfill`: a given number of rows, in CSV or as JSON
// lines. A given share of the rows repeats an earlier conversation, and a given share is invalid.
// The same flags generate the same rows, byte for byte, so that a run can be measured and its
// result calculated.
//
//	go run ./cmd/rows -rows 10000000 -duplicates 0.5 | gzip > states.csv.gz
//	go run ./cmd/rows -rows 1000 -bad 0.01 -format ndjson -seed 7 > states.ndjson
//
// It writes only rows, and it does not depend on the code that reads them.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
)

func main() {
	var o options
	flag.Int64Var(&o.rows, "rows", 1000, "number of `rows`")
	flag.Float64Var(&o.duplicates, "duplicates", 0.5,
		"`share` of the rows that repeat a conversation, with another read time")
	flag.Float64Var(&o.bad, "bad", 0, "`share` of the rows that are invalid, in several ways")
	flag.StringVar(&o.format, "format", "csv", "csv or ndjson")
	flag.Uint64Var(&o.seed, "seed", 1, "seed: another one generates other rows of the same kind")
	flag.Parse()
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	err := write(out, o)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rows:", err)
		os.Exit(1)
	}
}

type options struct {
	rows            int64
	duplicates, bad float64
	format          string
	seed            uint64
}

// newest is the largest read time, in November 2023: the past for every correct clock.
const newest = 1_700_000_000

// write writes the rows that o describes.
func write(out io.Writer, o options) error {
	if o.format != "csv" && o.format != "ndjson" {
		return fmt.Errorf("-format %s: must be csv or ndjson", o.format)
	}
	random := rand.New(rand.NewPCG(o.seed, 0))
	var line []byte
	if o.format == "csv" {
		line = append(line, "Report_Account,Peer_Account,MsgReadTime\n"...)
	}
	conversations := int64(0)
	for i := int64(0); i < o.rows; i++ {
		c := conversations
		if conversations > 0 && random.Float64() < o.duplicates {
			c = random.Int64N(conversations)
		} else {
			conversations++
		}
		t := newest - random.Int64N(100_000_000)
		if o.bad > 0 && random.Float64() < o.bad {
			line = appendBad(line, o.format, random.IntN(4), c, t)
		} else {
			line = appendRow(line, o.format, c, t)
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
		line = line[:0]
	}
	return nil
}

// peers is the number of users that each user talks to.
const peers = 16

func appendRow(b []byte, format string, conversation, t int64) []byte {
	reader := conversation / peers
	peer := reader + 1 + conversation%peers*7919
	if format == "csv" {
		b = appendUser(b, reader)
		b = appendUser(append(b, ','), peer)
		return append(strconv.AppendInt(append(b, ','), t, 10), '\n')
	}
	b = appendUser(append(b, `{"Report_Account":"`...), reader)
	b = appendUser(append(b, `","Peer_Account":"`...), peer)
	return append(strconv.AppendInt(append(b, `","MsgReadTime":`...), t, 10), "}\n"...)
}

func appendUser(b []byte, n int64) []byte {
	const digits = "0000000000"
	b = append(b, "user"...)
	text := strconv.FormatInt(n, 10)
	return append(append(b, digits[min(len(digits), len(text)):]...), text...)
}

// appendBad appends an invalid row.
func appendBad(b []byte, format string, kind int, conversation, t int64) []byte {
	switch kind {
	case 0:
		return appendRow(b, format, conversation, t*1000) // milliseconds
	case 1:
		return append(append(b, "no row at all "...), strconv.FormatInt(conversation, 10)+"\n"...)
	case 2:
		if format == "csv" {
			return append(appendUser(append(b, ','), conversation), ",1700000000\n"...)
		}
		return append(appendUser(append(b, `{"Peer_Account":"`...), conversation), "\"}\n"...)
	default:
		row := appendRow(nil, format, conversation, t)
		return append(append(b, row[:len(row)-14]...), '\n') // cut off
	}
}
