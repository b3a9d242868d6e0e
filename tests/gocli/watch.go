package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// watchReport is what `watch` prints.
type watchReport struct {
	Watches int `json:"watches"`
	// Open is how many of them are neither cancelled by the client nor ended.
	Open   int64          `json:"open"`
	Events int64          `json:"events"`
	Errors int            `json:"errors"`
	Texts  map[string]int `json:"texts"`
}

type watches struct {
	open, events atomic.Int64
	mutex        sync.Mutex
	texts        map[string]int
	errors       int
	cancels      []context.CancelFunc
}

func (w *watches) fail(err error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.errors++
	w.texts[err.Error()]++
}

func (w *watches) report(count int) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return report(watchReport{Watches: count, Open: w.open.Load(), Events: w.events.Load(), Errors: w.errors, Texts: w.texts})
}

// follow reads one watch to its end. It says so to created once, when the watch stands or has failed.
func (w *watches) follow(ctx context.Context, client *clientv3.Client, key string, created *sync.WaitGroup) {
	var once sync.Once
	stands := func() { once.Do(created.Done) }
	defer stands()
	w.open.Add(1)
	defer w.open.Add(-1)
	for answer := range client.Watch(ctx, key, clientv3.WithCreatedNotify()) {
		if answer.Created {
			stands()
			continue
		}
		if err := answer.Err(); err != nil && ctx.Err() == nil {
			w.fail(err)
			return
		}
		w.events.Add(int64(len(answer.Events)))
	}
	if ctx.Err() == nil {
		w.fail(fmt.Errorf("a watch ended without a word"))
	}
}

// watch opens its watches and keeps them until its input ends.
func watch(flags *flag.FlagSet, endpoints *string) error {
	key := flags.String("key", "/registry/secrets/default/a", "what is watched")
	count := flags.Int("watches", 100, "how many watches")
	connections := flags.Int("clients", 1, "how many clients they are spread over, each with connections of its own")
	own := flags.Bool("own-streams", false, "a stream for each watch, not for each client")
	patience := flags.Duration("patience", 2*time.Minute, "how long all of them may take to be created")
	if err := flags.Parse(os.Args[2:]); err != nil {
		return err
	}
	watches := watches{texts: map[string]int{}}
	clients := make([]*clientv3.Client, *connections)
	for index := range clients {
		client, err := connect(*endpoints)
		if err != nil {
			return err
		}
		defer client.Close()
		clients[index] = client
	}
	var created sync.WaitGroup
	for index := range *count {
		ctx, cancel := context.WithCancel(context.Background())
		if *own {
			// The library puts watches whose contexts have the same metadata on one stream.
			ctx = metadata.AppendToOutgoingContext(ctx, "own-stream", strconv.Itoa(index))
		}
		watches.cancels = append(watches.cancels, cancel)
		created.Add(1)
		go watches.follow(ctx, clients[index%len(clients)], *key, &created)
	}
	all := make(chan struct{})
	go func() { created.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(*patience):
		return fmt.Errorf("not all watches were created within %v", *patience)
	}
	fmt.Println("ready")

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var most int
		if lines.Text() == "look" {
			if err := watches.report(*count); err != nil {
				return err
			}
		} else if _, err := fmt.Sscanf(lines.Text(), "cancel %d", &most); err == nil {
			most = min(most, len(watches.cancels))
			for _, cancel := range watches.cancels[:most] {
				cancel()
			}
			watches.cancels = watches.cancels[most:]
		} else {
			return fmt.Errorf("unknown line %q", lines.Text())
		}
	}
	return watches.report(*count)
}
