package natural

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSort(t *testing.T) {
	for name, test := range map[string]struct{ names, sorted []string }{
		"words":   {[]string{"pear", "apple"}, []string{"apple", "pear"}},
		"numbers": {[]string{"page 10", "page 9", "page 1"}, []string{"page 1", "page 9", "page 10"}},
		"zeros":   {[]string{"a010", "a9", "a01"}, []string{"a01", "a9", "a010"}},
	} {
		t.Run(name, func(t *testing.T) {
			Sort(test.names)
			if difference := cmp.Diff(test.sorted, test.names); difference != "" {
				t.Error(difference)
			}
		})
	}
}
