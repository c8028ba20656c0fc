package main

import (
	"context"
	"os"
)

func main() {
	ctx, stop := notified(context.Background())
	status := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
