package nexmark

import (
	"fmt"
	"math/bits"
	"strings"
)

// texts is what names, descriptions and the like are cut from. The public generator
// makes each string letter by letter; a piece of a long random text is as random to
// any query, and costs neither time nor memory.
type texts struct {
	letters  string    // without a break
	words    string    // with a blank after about twelve letters
	channels []channel // all a bid may come by
	hot      []channel // those that half of the bids come by
}

type channel struct{ name, url string }

const (
	textSize     = 1 << 18
	channelCount = 10_000
)

func newTexts(seed uint64) *texts {
	r := randomOf(seed, -1)
	t := &texts{letters: randomText(&r, 0), words: randomText(&r, ' ')}
	for _, name := range []string{"Google", "Facebook", "Baidu", "Apple"} {
		t.hot = append(t.hot, channel{name, t.url(&r)})
	}
	for i := range uint32(channelCount) {
		c := channel{fmt.Sprintf("channel-%d", i), t.url(&r)}
		if r.below(10) > 0 {
			c.url += fmt.Sprintf("&channel_id=%d", bits.Reverse32(i)>>1)
		}
		t.channels = append(t.channels, c)
	}
	return t
}

// randomText returns letters and, where there is one, now and then a space.
func randomText(r *random, space byte) string {
	text := make([]byte, textSize)
	for i := range text {
		if space != 0 && r.below(13) == 0 {
			text[i] = space
			continue
		}
		text[i] = byte('a' + r.below(26))
	}
	return string(text)
}

func (t *texts) url(r *random) string {
	return fmt.Sprintf("https://www.nexmark.com/%s/%s/%s/item.htm?query=1", t.folder(r), t.folder(r), t.folder(r))
}

func (t *texts) folder(r *random) string { return strings.ReplaceAll(t.name(r, 5), " ", "_") }

// name returns words of 3 letters to one less than most, blanks at the ends taken
// away.
func (t *texts) name(r *random, most int64) string {
	return strings.TrimSpace(cut(t.words, r, 3+r.below(most-3)))
}

// extra returns what makes an event as long as the average says, within a fifth, in
// which size is what it has already.
func (t *texts) extra(r *random, size int, average int64) string {
	want := average - int64(size)
	if want <= 0 {
		return ""
	}
	around := (want + 2) / 5
	n := want - around
	if around > 0 {
		n += r.below(2 * around)
	}
	return cut(t.letters, r, n)
}

func cut(text string, r *random, n int64) string {
	at := r.below(int64(len(text)) - n)
	return text[at : at+n]
}
