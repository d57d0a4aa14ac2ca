// Package natural sorts names as people do: "page 9" before "page 10".
package natural

import "sort"

// Sort sorts names in place.
func Sort(names []string) {
	sort.Slice(names, func(a, b int) bool { return names[a] < names[b] })
}
