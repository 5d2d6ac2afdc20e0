// ask: as ask.mjs, for the package in Go.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/lib/pq"
	"keys"
)

func sqlstateOf(err error) string {
	var refused *pq.Error
	if errors.As(err, &refused) {
		return string(refused.Code)
	}
	return ""
}

func main() {
	pool, err := keys.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Split(lines.Text(), " ")
		for i := range words {
			words[i], _ = url.QueryUnescape(words[i])
		}
		answer := "none"
		if words[0] == "verify" {
			key, failed := keys.Verify(context.Background(), pool, words[1])
			if err = failed; key != nil {
				answer = fmt.Sprintf("row %s %s %s", key.KeyID, key.OrgID, key.Tier)
			}
		} else {
			key, failed := keys.Mint(context.Background(), pool, words[1], words[2])
			if err = failed; key != nil {
				answer = fmt.Sprintf("row %s %s", key.KeyID, key.Secret)
			}
		}
		if errors.Is(err, keys.ErrInvalid) {
			answer = "invalid " + err.Error()
		} else if err != nil {
			fmt.Fprintf(os.Stderr, "%+v\n", err)
			answer = "error " + sqlstateOf(err)
		}
		fmt.Println(answer)
	}
}
