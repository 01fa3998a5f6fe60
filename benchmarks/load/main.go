// Command load calls a gRPC server as fast as it answers, with requests that were serialised before, and prints what it
// measured as one line of JSON. It knows no message: requests and responses are bytes.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

const callTimeout = 30 * time.Second

// passthrough hands bytes on as they are.
type passthrough struct{}

func (passthrough) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (passthrough) Unmarshal(body []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), body...)
	return nil
}

func (passthrough) Name() string { return "proto" }

// Report is what was measured. Only calls that ended within the measured time count for the rate and the latencies.
type Report struct {
	Generator     string  `json:"generator"`
	Calls         int     `json:"calls"`
	CallsInAll    int     `json:"calls_in_all"`
	Seconds       float64 `json:"seconds"`
	Errors        int     `json:"errors"`
	FirstError    string  `json:"first_error"`
	P50Ms         float64 `json:"p50_ms"`
	P99Ms         float64 `json:"p99_ms"`
	ResponseBytes float64 `json:"response_bytes"`
}

// Load is one measurement.
type Load struct {
	method      string
	token       string
	requests    [][]byte
	connections []*grpc.ClientConn
	inFlight    int
	streams     int
	once        bool
	responses   [][]byte
	keep        bool
	from, until time.Time

	next  atomic.Int64
	mutex sync.Mutex
	// Guarded by mutex.
	latencies []time.Duration
	counted   int
	all       int
	bytes     int
	failures  int
	failure   string
	last      time.Time
}

// tally is what one worker saw.
type tally struct {
	latencies []time.Duration
	counted   int
	all       int
	bytes     int
	last      time.Time
}

func (t *tally) answered(load *Load, began time.Time, size int) {
	now := time.Now()
	t.all++
	t.bytes += size
	t.last = now
	if now.Before(load.from) || now.After(load.until) {
		return
	}
	t.counted++
	if !began.IsZero() {
		t.latencies = append(t.latencies, now.Sub(began))
	}
}

func (load *Load) add(t *tally) {
	load.mutex.Lock()
	defer load.mutex.Unlock()
	load.latencies = append(load.latencies, t.latencies...)
	load.counted += t.counted
	load.all += t.all
	load.bytes += t.bytes
	if t.last.After(load.last) {
		load.last = t.last
	}
}

func (load *Load) failed(err error) {
	load.mutex.Lock()
	defer load.mutex.Unlock()
	load.failures++
	if load.failure == "" {
		load.failure = err.Error()
	}
}

// take gives the number of the next request, or false when the time is over or the requests are used up.
func (load *Load) take() (int, bool) {
	if time.Now().After(load.until) {
		return 0, false
	}
	number := int(load.next.Add(1) - 1)
	if load.once && number >= len(load.requests) {
		return 0, false
	}
	return number % len(load.requests), true
}

func (load *Load) connection(number int) *grpc.ClientConn {
	return load.connections[number%len(load.connections)]
}

func (load *Load) unary() {
	var workers sync.WaitGroup
	for worker := 0; worker < load.inFlight; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			var seen tally
			defer load.add(&seen)
			connection := load.connection(worker)
			for {
				number, more := load.take()
				if !more {
					return
				}
				var response []byte
				began := time.Now()
				ctx, cancel := context.WithTimeout(load.context(), callTimeout)
				err := connection.Invoke(ctx, load.method, &load.requests[number], &response)
				cancel()
				if err != nil {
					load.failed(err)
					return
				}
				seen.answered(load, began, len(response))
				if load.keep {
					load.responses[number] = response
				}
			}
		}()
	}
	workers.Wait()
}

// context carries the token, where there is one.
func (load *Load) context() context.Context {
	if load.token == "" {
		return context.Background()
	}
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+load.token)
}

func (load *Load) open(number int) (grpc.ClientStream, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(load.context())
	description := &grpc.StreamDesc{StreamName: "load", ClientStreams: true, ServerStreams: true}
	stream, err := load.connection(number).NewStream(ctx, description, load.method)
	return stream, cancel, err
}

// stream keeps `inFlight` messages unanswered on each of `streams` bidirectional streams.
func (load *Load) stream() {
	var workers sync.WaitGroup
	for worker := 0; worker < load.streams; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			var seen tally
			defer load.add(&seen)
			stream, cancel, err := load.open(worker)
			defer cancel()
			if err != nil {
				load.failed(err)
				return
			}
			sent := make(chan time.Time, load.inFlight)
			go func() {
				defer close(sent)
				for {
					number, more := load.take()
					if !more {
						break
					}
					sent <- time.Now()
					if stream.SendMsg(&load.requests[number]) != nil {
						return
					}
				}
				_ = stream.CloseSend()
			}()
			for {
				var response []byte
				if err := stream.RecvMsg(&response); err != nil {
					if !errors.Is(err, io.EOF) {
						load.failed(err)
					}
					return
				}
				seen.answered(load, <-sent, len(response))
			}
		}()
	}
	workers.Wait()
}

// watch opens `streams` calls that the server answers with messages until the time is over.
func (load *Load) watch() {
	var workers sync.WaitGroup
	for worker := 0; worker < load.streams; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			var seen tally
			defer load.add(&seen)
			stream, cancel, err := load.open(worker)
			defer cancel()
			if err == nil {
				err = stream.SendMsg(&load.requests[worker%len(load.requests)])
			}
			if err == nil {
				err = stream.CloseSend()
			}
			if err != nil {
				load.failed(err)
				return
			}
			over := time.AfterFunc(time.Until(load.until), cancel)
			defer over.Stop()
			for {
				var response []byte
				if err := stream.RecvMsg(&response); err != nil {
					if time.Now().Before(load.until) {
						load.failed(err)
					}
					return
				}
				seen.answered(load, time.Time{}, len(response))
			}
		}()
	}
	workers.Wait()
}

func (load *Load) report() Report {
	end := load.until
	if load.once && load.last.Before(end) {
		end = load.last
	}
	report := Report{
		Generator:  "go",
		Calls:      load.counted,
		CallsInAll: load.all,
		Seconds:    end.Sub(load.from).Seconds(),
		Errors:     load.failures,
		FirstError: load.failure,
	}
	if load.all > 0 {
		report.ResponseBytes = float64(load.bytes) / float64(load.all)
	}
	if count := len(load.latencies); count > 0 {
		sort.Slice(load.latencies, func(a, b int) bool { return load.latencies[a] < load.latencies[b] })
		report.P50Ms = float64(load.latencies[count/2].Microseconds()) / 1000
		report.P99Ms = float64(load.latencies[count*99/100].Microseconds()) / 1000
	}
	return report
}

func readFrames(path string) ([][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reader := bufio.NewReader(file)
	var frames [][]byte
	for {
		var size uint32
		if err := binary.Read(reader, binary.BigEndian, &size); errors.Is(err, io.EOF) {
			return frames, nil
		} else if err != nil {
			return nil, err
		}
		frame := make([]byte, size)
		if _, err := io.ReadFull(reader, frame); err != nil {
			return nil, err
		}
		frames = append(frames, frame)
	}
}

func writeFrames(path string, frames [][]byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	writer := bufio.NewWriter(file)
	for _, frame := range frames {
		if err := binary.Write(writer, binary.BigEndian, uint32(len(frame))); err != nil {
			return err
		}
		if _, err := writer.Write(frame); err != nil {
			return err
		}
	}
	return errors.Join(writer.Flush(), file.Close())
}

func dial(target string) (*grpc.ClientConn, error) {
	connection, err := grpc.NewClient(
		target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(passthrough{}), grpc.MaxCallRecvMsgSize(64<<20)),
	)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	connection.Connect()
	for state := connection.GetState(); state != connectivity.Ready; state = connection.GetState() {
		if !connection.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("%s does not answer", target)
		}
	}
	return connection, nil
}

func run() error {
	load := Load{}
	mode := flag.String("mode", "unary", "unary, stream or watch")
	target := flag.String("target", "", "host:port of the server")
	requests := flag.String("requests", "", "file of requests, each with its length in four bytes before it")
	responses := flag.String("responses", "", "file to write each request's response to, in the order of the requests")
	connections := flag.Int("connections", 1, "connections that the calls are spread over")
	seconds := flag.Float64("seconds", 1, "how long to measure")
	warmUp := flag.Float64("warm-up", 0, "how long to call before that")
	flag.StringVar(&load.method, "method", "", "/package.Service/Method")
	flag.StringVar(&load.token, "token", "", "token to send with every call")
	flag.IntVar(&load.inFlight, "in-flight", 1, "calls, or messages of each stream, that wait for their answer")
	flag.IntVar(&load.streams, "streams", 1, "streams")
	flag.BoolVar(&load.once, "once", false, "send each request once, and end with the last one")
	flag.Parse()

	var err error
	if load.requests, err = readFrames(*requests); err != nil {
		return err
	}
	if len(load.requests) == 0 {
		return fmt.Errorf("%s holds no request", *requests)
	}
	if load.keep = *responses != ""; load.keep {
		load.responses = make([][]byte, len(load.requests))
	}
	for number := 0; number < *connections; number++ {
		connection, err := dial(*target)
		if err != nil {
			return err
		}
		defer connection.Close()
		load.connections = append(load.connections, connection)
	}
	load.from = time.Now().Add(time.Duration(*warmUp * float64(time.Second)))
	load.until = load.from.Add(time.Duration(*seconds * float64(time.Second)))
	switch *mode {
	case "unary":
		load.unary()
	case "stream":
		load.stream()
	case "watch":
		load.watch()
	default:
		return fmt.Errorf("no mode %q", *mode)
	}
	if load.keep {
		if err := writeFrames(*responses, load.responses); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(load.report())
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
