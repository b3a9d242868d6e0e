package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// operation is one line of a history.
type operation struct {
	Client int    `json:"client"`
	Key    string `json:"key"`
	// create, update, put, get or delete
	Verb string `json:"verb"`
	// In microseconds since the run's start.
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
	// ok, failed (certainly without effect) or ambiguous
	Outcome string `json:"outcome"`
	// What a write writes.
	Value string `json:"value"`
	// What an update replaces: the value and the mod revision that its client had seen.
	Expected         string `json:"expected"`
	ExpectedRevision int64  `json:"expected_revision"`
	// Of an answer: whether a transaction's comparison held or a deletion found something.
	Succeeded bool `json:"succeeded"`
	// Of an answer: the revision of a write.
	Revision int64 `json:"revision"`
	// Of an answer: whether the key was read, and what it holds.
	Read          bool   `json:"read"`
	Exists        bool   `json:"exists"`
	Found         string `json:"found"`
	FoundRevision int64  `json:"found_revision"`
}

// register is one key. A sweep writes the same value again whenever it likes, so the revision is only a lower bound.
type register struct {
	exists   bool
	value    string
	revision int64
}

// step says whether an operation can come next, and what the key is after it.
func step(state register, op operation) (bool, register) {
	isAmbiguous := op.Outcome == "ambiguous"
	switch op.Verb {
	case "get":
		return found(state, op)
	case "put":
		return written(state, op, true, isAmbiguous)
	case "create":
		if isAmbiguous && state.exists {
			return true, state
		}
		if isAmbiguous || op.Succeeded {
			return written(state, op, !state.exists, isAmbiguous)
		}
		return state.exists, state
	case "update":
		holds := state.exists && state.value == op.Expected && state.revision <= op.ExpectedRevision
		if isAmbiguous && !holds {
			return true, state
		}
		if isAmbiguous || op.Succeeded {
			return written(state, op, holds, isAmbiguous)
		}
		if op.Read && op.Exists && op.FoundRevision == op.ExpectedRevision {
			return false, state
		}
		return found(state, op)
	case "delete":
		if isAmbiguous {
			return true, register{revision: state.revision}
		}
		if !op.Succeeded {
			return !state.exists, state
		}
		return state.exists && op.Revision > state.revision, register{revision: op.Revision}
	}
	return false, state
}

// written is the key after a write that was possible.
func written(state register, op operation, possible, isAmbiguous bool) (bool, register) {
	after := register{exists: true, value: op.Value, revision: op.Revision}
	if isAmbiguous {
		after.revision = state.revision + 1
	} else if op.Revision <= state.revision {
		return false, state
	}
	return possible, after
}

// found is the key after it was read.
func found(state register, op operation) (bool, register) {
	if !op.Read {
		return true, state
	}
	if !op.Exists {
		return !state.exists, state
	}
	if !state.exists || state.value != op.Found || state.revision > op.FoundRevision {
		return false, state
	}
	state.revision = op.FoundRevision
	return true, state
}

var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, _ any) (bool, any) {
		possible, after := step(state.(register), input.(operation))
		return possible, after
	},
	Equal: func(one, other any) bool { return one == other },
}

// judge looks at each key for itself, so that a search which takes too long leaves that key alone unknown. A line is written as
// soon as a key is judged: what ends this process for its memory takes no verdict back.
func judge(args []string) error {
	flags := flag.NewFlagSet("judge", flag.ExitOnError)
	file := flags.String("history", "", "a history, an operation a line")
	timeout := flags.Duration("timeout", 5*time.Second, "for one key")
	_ = flags.Parse(args)
	keys, err := load(*file)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(keys))
	for name := range keys {
		names = append(names, name)
	}
	sort.Strings(names)
	out := json.NewEncoder(os.Stdout)
	for _, name := range names {
		verdict := porcupine.CheckOperationsTimeout(model, keys[name], *timeout)
		if err := out.Encode(map[string]string{"key": name, "verdict": string(verdict)}); err != nil {
			return err
		}
	}
	return nil
}

func load(file string) (map[string][]porcupine.Operation, error) {
	source, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	keys := map[string][]porcupine.Operation{}
	lines := bufio.NewScanner(source)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var op operation
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		switch op.Outcome {
		case "ok":
		case "ambiguous":
			if op.Verb == "get" {
				continue
			}
			// It may take effect at any time to come.
			op.Return = math.MaxInt64
		case "failed":
			// If its value is found all the same, nobody has written that.
			if _, isKnown := keys[op.Key]; !isKnown {
				keys[op.Key] = nil
			}
			continue
		default:
			return nil, fmt.Errorf("%s: an outcome of %q", file, op.Outcome)
		}
		keys[op.Key] = append(keys[op.Key], porcupine.Operation{
			ClientId: op.Client, Input: op, Call: op.Call, Return: op.Return,
		})
	}
	return keys, lines.Err()
}
