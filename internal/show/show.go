// Package show renders a record for an error or a dead letter.
package show

import (
	"fmt"
	"strings"
)

// limit is the length in bytes that is readable.
const limit = 512

// Value returns v as text, cut to a readable length. It survives a String
// method that panics.
func Value(v any) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprintf("%T (unprintable: %v)", v, r)
		}
	}()
	text = fmt.Sprintf("%+v", v)
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
