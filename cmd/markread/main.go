// Command markread applies mark-read events from Kafka to the Tencent IM server. README.md
// describes the product and its guarantees; the package docs describe how each guarantee is kept.
// This package handles only signals and the exit status: package cli has the commands, package app
// wires the product.
package main

import (
	"context"
	"os"

	"markread/cmd/markread/cli"
)

func main() {
	ctx, stop := cli.UntilSignal(context.Background())
	status := cli.Run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
