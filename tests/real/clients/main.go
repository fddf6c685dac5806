// Command forward sends records with Fluentd's logger for Go and asks for
// acknowledgements. Each line of standard input is a JSON list of records; each
// message that was acknowledged is written to the file CONFIRMED.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/fluent/fluent-logger-golang/fluent"
)

const (
	tag          = "shop.orders"
	maxLineBytes = 16 << 20
)

func main() {
	port, err := strconv.Atoi(os.Getenv("PORT"))
	if err != nil {
		log.Fatalf("failed to read PORT: %v", err)
	}
	confirmed, err := os.OpenFile(os.Getenv("CONFIRMED"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatalf("failed to open CONFIRMED: %v", err)
	}
	logger, err := fluent.New(fluent.Config{FluentHost: "127.0.0.1", FluentPort: port, RequestAck: true})
	if err != nil {
		log.Fatalf("failed to connect: %v", err)
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		var records []map[string]any
		if err := json.Unmarshal(lines.Bytes(), &records); err != nil {
			log.Fatalf("failed to read records: %v", err)
		}
		for _, record := range records {
			post(logger, record, confirmed)
		}
	}
	if err := logger.Close(); err != nil {
		log.Fatalf("failed to close: %v", err)
	}
}

// post sends one record. The logger itself tries again, up to thirteen times
// with the same chunk id. What it gives up is not posted again: that would have
// another id, and if it was stored before, nobody could tell.
func post(logger *fluent.Fluent, record map[string]any, confirmed *os.File) {
	if err := logger.Post(tag, record); err != nil {
		log.Printf("failed to post: %v", err)
		return
	}
	message, _ := json.Marshal([]any{record["message"]})
	fmt.Fprintln(confirmed, string(message))
}
