package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// loadReport is what `load` prints. Times are milliseconds, of calls that succeeded or failed.
type loadReport struct {
	Calls   int            `json:"calls"`
	Puts    int            `json:"puts_failed"`
	Gets    int            `json:"gets_failed"`
	Wrong   int            `json:"wrong"`
	Texts   map[string]int `json:"texts"`
	Longest float64        `json:"longest"`
	// LongestPut and LongestGet are Longest of either kind.
	LongestPut float64 `json:"longest_put"`
	LongestGet float64 `json:"longest_get"`
	P50        float64 `json:"p50"`
	P99        float64 `json:"p99"`
}

type tally struct {
	mutex  sync.Mutex
	report loadReport
	times  []float64
}

func (t *tally) count(isPut bool, begun time.Time, err error) {
	took := float64(time.Since(begun).Microseconds()) / 1000
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.report.Calls++
	t.times = append(t.times, took)
	longest, failed, kind := &t.report.LongestGet, &t.report.Gets, "get"
	if isPut {
		longest, failed, kind = &t.report.LongestPut, &t.report.Puts, "put"
	}
	*longest = max(*longest, took)
	if err != nil {
		*failed++
		t.report.Texts[kind+": "+err.Error()]++
	}
}

func (t *tally) finish() loadReport {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	slices.Sort(t.times)
	if n := len(t.times); n > 0 {
		t.report.P50, t.report.P99, t.report.Longest = t.times[n/2], t.times[n*99/100], t.times[n-1]
	}
	return t.report
}

// load waits for a line, and then begins a put and a get every so often, whether or not earlier ones have ended, until its input
// ends; then it waits for them.
func load(flags *flag.FlagSet, endpoints *string) error {
	below := flags.String("below", "/registry/secrets/default/", "what keys begin with")
	every := flags.Duration("every", 20*time.Millisecond, "from one put and get to the next")
	deadline := flags.Duration("deadline", 30*time.Second, "of each call")
	keys := flags.Int("keys", 10, "how many keys are used in turn")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	client, err := connect(*endpoints)
	if err != nil {
		return err
	}
	defer client.Close()

	// Every key is there first, so that a get that finds nothing is wrong.
	key := func(turn int) string { return fmt.Sprintf("%s%d", *below, turn%*keys) }
	first, cancel := context.WithTimeout(context.Background(), *deadline)
	defer cancel()
	for turn := range *keys {
		if _, err := client.Put(first, key(turn), "value"); err != nil {
			return fmt.Errorf("the first puts: %w", err)
		}
	}
	fmt.Println("ready")
	input := bufio.NewReader(os.Stdin)
	if _, err := input.ReadString('\n'); err != nil {
		return fmt.Errorf("no line to begin at: %w", err)
	}

	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, input)
		close(ended)
	}()
	tally := tally{report: loadReport{Texts: map[string]int{}}}
	var calls sync.WaitGroup
	ticker := time.NewTicker(*every)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ended:
			calls.Wait()
			return report(tally.finish())
		case <-ticker.C:
		}
		put := func() {
			ctx, cancel := context.WithTimeout(context.Background(), *deadline)
			defer cancel()
			begun := time.Now()
			_, err := client.Put(ctx, key(turn), "value")
			tally.count(true, begun, err)
		}
		get := func() {
			ctx, cancel := context.WithTimeout(context.Background(), *deadline)
			defer cancel()
			begun := time.Now()
			var answer *clientv3.GetResponse
			answer, err := client.Get(ctx, key(turn+*keys/2))
			tally.count(false, begun, err)
			if err == nil && (len(answer.Kvs) != 1 || string(answer.Kvs[0].Value) != "value") {
				tally.mutex.Lock()
				tally.report.Wrong++
				tally.mutex.Unlock()
			}
		}
		calls.Go(put)
		calls.Go(get)
		// The library takes endpoints in turns. With one call more now and then, puts do not all go to the same one of two.
		if turn%2 == 0 {
			calls.Go(get)
		}
	}
}
