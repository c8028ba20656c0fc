// Command markread applies mark-read events from Kafka at the Tencent IM server. README.md says
// what it is and what it promises; how a promise is kept is in the docs of the packages. Here are
// only signals and the exit status: package cli has the commands, package app wires the product.
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
