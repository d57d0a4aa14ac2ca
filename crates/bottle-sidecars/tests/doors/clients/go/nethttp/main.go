// Go's net/http, which prefers HTTP/2.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	for at := 1; at+1 < len(os.Args); at += 2 {
		method, url := os.Args[at], os.Args[at+1]
		var body io.Reader
		if method == "POST" {
			body = strings.NewReader("a body")
		}
		request, _ := http.NewRequest(method, url, body)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			fmt.Println(method, url, "failed")
			continue
		}
		content, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		fmt.Println(method, url, answer.StatusCode, len(content), err != nil, len(answer.Header) > 100,
			answer.Header.Get("X-Sha"), answer.Trailer.Get("X-Sum"))
	}
}
