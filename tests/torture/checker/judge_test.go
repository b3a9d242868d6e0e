package main

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

func check(ops ...operation) porcupine.CheckResult {
	history := make([]porcupine.Operation, len(ops))
	for index, op := range ops {
		history[index] = porcupine.Operation{ClientId: index, Input: op, Call: op.Call, Return: op.Return}
	}
	return porcupine.CheckOperationsTimeout(model, history, time.Second)
}

func create(call, end, revision int64) operation {
	return operation{Verb: "create", Call: call, Return: end, Outcome: "ok", Value: "a", Succeeded: true, Revision: revision}
}

func get(call, end, revision int64, value string) operation {
	return operation{
		Verb: "get", Call: call, Return: end, Outcome: "ok", Read: true,
		Exists: value != "", Found: value, FoundRevision: revision,
	}
}

func TestJudge(t *testing.T) {
	late := operation{Verb: "put", Call: 3, Return: 1 << 60, Outcome: "ambiguous", Value: "b"}
	update := operation{
		Verb: "update", Call: 3, Return: 4, Outcome: "ok", Value: "c", Expected: "a", ExpectedRevision: 5, Succeeded: true, Revision: 9,
	}
	cases := []struct {
		name string
		ops  []operation
		want porcupine.CheckResult
	}{
		{"a value is read back, after a sweep too", []operation{create(1, 2, 5), get(3, 4, 8, "a")}, porcupine.Ok},
		{"an acknowledged value is gone", []operation{create(1, 2, 5), get(3, 4, 0, "")}, porcupine.Illegal},
		{"a revision goes back", []operation{create(1, 2, 5), get(3, 4, 4, "a")}, porcupine.Illegal},
		{"a value that nobody wrote", []operation{create(1, 2, 5), get(3, 4, 8, "x")}, porcupine.Illegal},
		{"an unanswered put came late", []operation{create(1, 2, 5), late, get(4, 5, 5, "a"), get(6, 7, 9, "b")}, porcupine.Ok},
		{"and is not undone", []operation{create(1, 2, 5), late, get(4, 5, 9, "b"), get(6, 7, 10, "a")}, porcupine.Illegal},
		{"two creates succeed", []operation{create(1, 2, 5), create(3, 4, 6)}, porcupine.Illegal},
		{"an update of what was seen", []operation{create(1, 2, 5), update, get(5, 6, 9, "c")}, porcupine.Ok},
		{"an update over a sweep's revision", []operation{create(1, 2, 6), update}, porcupine.Illegal},
		{"an update is lost", []operation{create(1, 2, 5), update, get(5, 6, 10, "a")}, porcupine.Illegal},
	}
	for _, c := range cases {
		if got := check(c.ops...); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
}
