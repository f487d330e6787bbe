// compose-load reads a compose file with the library that `docker compose` uses, without contacting an engine, and prints
// the project with its active services as JSON: variables substituted, anchors merged, paths resolved, references checked.
//
// Usage: compose-load [-profile NAME] [-env NAME=VALUE] FILE
//
// Only variables given by -env are set, so that the same tree gives the same project on every machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/cli"
)

// words collects a flag that may be given more than once.
type words []string

func (w *words) String() string { return fmt.Sprint(*w) }

func (w *words) Set(word string) error {
	*w = append(*w, word)
	return nil
}

func main() {
	var profiles, environment words
	flag.Var(&profiles, "profile", "active profile; may be given several times")
	flag.Var(&environment, "env", "variable NAME=VALUE; may be given several times")
	flag.Parse()
	if flag.NArg() != 1 {
		fail(fmt.Errorf("usage: compose-load [-profile NAME] [-env NAME=VALUE] FILE"))
	}
	file := flag.Arg(0)
	options, err := cli.NewProjectOptions(
		[]string{file},
		cli.WithWorkingDirectory(filepath.Dir(file)),
		cli.WithEnv(environment),
		cli.WithProfiles(profiles),
		cli.WithInterpolation(true),
		cli.WithResolvedPaths(true),
		cli.WithNormalization(true),
		cli.WithConsistency(true),
	)
	if err != nil {
		fail(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		fail(err)
	}
	json, err := project.MarshalJSON()
	if err != nil {
		fail(err)
	}
	fmt.Println(string(json))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "compose-load:", err)
	os.Exit(1)
}
