package main

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxTime is the watermark behind which nothing comes.
const maxTime = math.MaxInt64

func bytesText(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} {
		if f /= 1024; f < 1023.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

func timeText(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05Z") }

func watermarkText(ms int64) string {
	switch ms {
	case math.MinInt64:
		return "none yet"
	case maxTime:
		return "ended"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000Z")
}

func versionsText(versions []uint32) string {
	return dash(strings.Trim(fmt.Sprint(versions), "[]"))
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// positionText shows a position as text if it is text, in one line.
func positionText(b []byte) string {
	const longest = 60
	text := string(b)
	if !utf8.Valid(b) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		text = "0x" + hex.EncodeToString(b)
	}
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return dash(text)
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func needed(by []string) string {
	if len(by) == 0 {
		return ""
	}
	return " (needed by " + strings.Join(by, ", ") + ")"
}
