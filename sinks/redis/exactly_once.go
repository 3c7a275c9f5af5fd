package redis

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/pipeline"
)

// piece is what one subtask has prepared for one checkpoint: commands that wait in a
// list. It is kept with the checkpoint.
type piece struct {
	Version int `json:"v"`
	mark
	Field  string `json:"field,omitempty"` // of the sink's hash; empty: there is nothing to commit
	List   string `json:"list,omitempty"`  // the list's key
	Chunks int    `json:"chunks,omitempty"`
	// Letters are how many rejected commands were handed over as dead letters since
	// the checkpoint before, by the field of their list.
	Letters map[string]int `json:"letters,omitempty"`
	// After is what the sink had committed before this run, nil for nothing.
	After *mark `json:"after,omitempty"`
}

// mark is a checkpoint of a run. Numbers begin again in each directory, hence the run.
type mark struct {
	Run        string `json:"run"`
	Checkpoint int64  `json:"checkpoint"`
}

const pieceVersion = 1

func parsePiece(data []byte) (p piece, err error) {
	if err := json.Unmarshal(data, &p); err != nil {
		return p, fmt.Errorf("what was prepared can't be read: %w", err)
	}
	if p.Version != pieceVersion {
		return p, fmt.Errorf("what was prepared is of version %d, this program knows %d", p.Version, pieceVersion)
	}
	return p, nil
}

// exactlyOnce puts commands into a list in Redis, in chunks, where they wait for their
// checkpoint. Its commit carries out one chunk after another, each by a script that
// also counts it, so that none is carried out twice:
//
//	Write, Flush   RPUSH list chunk
//	Prepare(7)     nothing but a look at the answers
//	Commit(7)      SET …, ZADD …, HSET hash piece 1; …; HSET hash piece done, DEL list
type exactlyOnce[T any] struct {
	*writer[T]
	hash    string  // the sink's key
	prefix  string  // of its other keys
	restart []piece // what an earlier run had prepared, by checkpoint

	number int // of the piece that is being filled
	chunks int // that it has
	after  *mark
	asked  bool // after is known
	replay bool // a user has had forgotten what was committed

	done   []string           // fields of pieces that were committed since the last Prepare
	forget map[int64][]string // the same, by the checkpoint that was prepared then

	handed  map[string]int // letters, by list, since the last Prepare
	kept    map[string]int // letters that were handed over and are still in their list
	refused bool           // there may be more to hand over
	left    bool           // there is
}

func newExactlyOnce[T any](ctx context.Context, w *writer[T]) (*exactlyOnce[T], error) {
	cfg := &w.sink.cfg
	id := cfg.ID
	if id == "" {
		id = w.env.Operator
	}
	hash := "millrace:" + id
	if cfg.HashTag != "" {
		hash = "millrace:{" + cfg.HashTag + "}:" + id
	}
	e := &exactlyOnce[T]{
		writer: w, hash: hash, prefix: hash + ":", forget: map[int64][]string{}, handed: map[string]int{}, kept: map[string]int{},
		refused: w.env.Subtask == 0, // what earlier runs have left
	}
	for _, data := range w.env.Prepared {
		p, err := parsePiece(data)
		if err != nil {
			return nil, err
		}
		e.restart = append(e.restart, p)
	}
	slices.SortStableFunc(e.restart, func(a, b piece) int { return cmp.Compare(a.Checkpoint, b.Checkpoint) })
	if err := w.server.do(ctx, func() error { return e.claim(ctx) }); err != nil {
		return nil, explained(err)
	}
	if w.env.Subtask != 0 {
		return e, nil
	}
	e.warnOfSettings(ctx)
	return e, explained(w.server.do(ctx, func() error { return e.tidy(ctx) }))
}

// run is what scripts ask for first.
func (w *exactlyOnce[T]) run() string { return w.env.Run }

func (w *exactlyOnce[T]) fieldOf(number int) string {
	return fmt.Sprintf("piece:%s:%d:%d", w.env.Run, w.env.Subtask, number)
}

func (w *exactlyOnce[T]) listOf(number int) string { return w.prefix + w.fieldOf(number) }

// rejectedField names the list of rejected commands of this subtask.
func (w *exactlyOnce[T]) rejectedField() string {
	return fmt.Sprintf("rejected:%s:%d", w.env.Run, w.env.Subtask)
}

// claim makes this run the only one that may write, unless it would write again what
// was committed.
func (w *exactlyOnce[T]) claim(ctx context.Context) error {
	for {
		is, err := w.look(ctx)
		w.replay = forgotten(is)
		if err != nil || is[0] == w.run() {
			return err
		}
		if w.env.Checkpoints && len(w.restart) > 0 && is == [3]string{} {
			return fmt.Errorf("Redis knows nothing of sink %q, of which the job has a checkpoint: it was started without what it had (see appendonly), has removed "+ //nolint:staticcheck // a name
				"keys (see maxmemory-policy), or is another one; what waited for the checkpoint is lost, and more may be. %s", w.hash, w.goOn("To go on all the same"))
		}
		if last := markOf(is); w.env.Checkpoints && last != nil && !continues(w.restart, *last) {
			return w.refusal(*last)
		}
		claimed, err := claim.Run(ctx, w.server, []string{w.hash}, w.run(), is[0], is[1], is[2]).Int()
		if err != nil || claimed == 1 {
			return err
		}
	}
}

// look returns the run that may write, and the run and checkpoint of what was
// committed last; empty for none.
func (w *exactlyOnce[T]) look(ctx context.Context) (is [3]string, err error) {
	values, err := w.server.HMGet(ctx, w.hash, "run", "last_run", "last_checkpoint").Result()
	for i, v := range values {
		is[i], _ = v.(string) // nil where there is none
	}
	return is, err
}

// forgotten says whether a user has had forgotten what was committed, by what goOn
// tells.
func forgotten(is [3]string) bool { return is[1] == "" && is[2] == "0" }

// goOn tells how to start without what the sink remembers. It stays so until the first
// checkpoint is committed. The key itself is not to be removed: what waits for the
// checkpoint that the job starts from would then be missed.
func (w *exactlyOnce[T]) goOn(what string) string {
	return fmt.Sprintf("%s, have it forget what was committed: HSET %q last_run \"\" last_checkpoint 0", what, w.hash)
}

func markOf(is [3]string) *mark {
	n, err := strconv.ParseInt(is[2], 10, 64)
	if is[1] == "" || err != nil {
		return nil
	}
	return &mark{is[1], n}
}

// continues says whether a job that starts with this goes on behind what was
// committed last, and not somewhere before it.
func continues(prepared []piece, last mark) bool {
	for _, p := range prepared {
		if p.Run == last.Run && p.Checkpoint >= last.Checkpoint || p.After != nil && *p.After == last {
			return true
		}
	}
	return false
}

func (w *exactlyOnce[T]) refusal(last mark) error {
	from := "starts anew"
	if len(w.restart) > 0 {
		from = fmt.Sprintf("starts from checkpoint %d, which is not behind it", w.restart[len(w.restart)-1].Checkpoint)
	}
	return fmt.Errorf("sink %q has committed up to checkpoint %d of run %s, and the job %s: it would carry out commands again; "+
		"start it with the directory it had. %s",
		w.hash, last.Checkpoint, last.Run, from, w.goOn("To have them carried out again"))
}

// warnOfSettings warns of a server that may throw away what waits in it, or do a part
// of a script twice. Of one that does not tell its settings it says nothing.
func (w *exactlyOnce[T]) warnOfSettings(ctx context.Context) {
	setting := func(name string) string {
		is, _ := w.server.ConfigGet(ctx, name).Result()
		return is[name]
	}
	if policy := setting("maxmemory-policy"); strings.HasPrefix(policy, "allkeys-") {
		w.env.Logger.Warn("Redis may remove any key when it is short of memory, what waits for a checkpoint too; set maxmemory-policy "+
			"to noeviction, or to one that removes only keys that expire", "maxmemory-policy", policy)
	}
	if setting("appendonly") == "yes" && setting("aof-load-truncated") == "yes" {
		w.env.Logger.Warn("Redis may count a part of the increments twice when it is killed while it writes its append-only file, and once more "+
			"later; set aof-load-truncated to no, and mend such a file with redis-check-aof --fix", "aof-load-truncated", "yes")
	}
}

// tidy removes what earlier runs have left that nobody will commit.
func (w *exactlyOnce[T]) tidy(ctx context.Context) error {
	mentioned := map[string]bool{}
	for _, p := range w.restart {
		mentioned[p.Field] = true
	}
	fields, err := w.server.HKeys(ctx, w.hash).Result()
	if err != nil {
		return err
	}
	for _, f := range fields {
		if !strings.HasPrefix(f, "piece:") || strings.HasPrefix(f, "piece:"+w.run()+":") || mentioned[f] {
			continue
		}
		// Not at once: without its list, a field does no harm.
		if err := w.server.Del(ctx, w.prefix+f).Err(); err != nil {
			return err
		}
		if err := w.server.HDel(ctx, w.hash, f).Err(); err != nil {
			return err
		}
	}
	return nil
}

// Write implements [pipeline.Writer].
func (w *exactlyOnce[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	if err := w.handOver(ctx); err != nil {
		return err
	}
	return w.write(ctx, b, w.stage)
}

// Flush implements [pipeline.Flusher]. It sends the commands, to know which records
// don't fit: after the barrier it would be too late for dead letters.
func (w *exactlyOnce[T]) Flush(ctx context.Context) error {
	if err := w.handOver(ctx); err != nil {
		return err
	}
	return w.stage(ctx)
}

// stage puts the batch into the list, except for records that don't fit.
func (w *exactlyOnce[T]) stage(ctx context.Context) error {
	for len(w.batch) > 0 {
		wrong, err := w.tryStage(ctx)
		if err != nil {
			return explained(err)
		}
		if len(wrong) == 0 {
			w.chunks++
			break
		}
		w.rejectKeys(wrong)
	}
	w.fresh()
	return nil
}

// tryStage stages the batch unless it returns keys that hold something else than what
// commands need, with that.
func (w *exactlyOnce[T]) tryStage(ctx context.Context) (wrong map[string]string, err error) {
	keys := []string{w.hash, w.listOf(w.number)}
	args := []any{w.run(), w.fieldOf(w.number), w.chunks + 1, encodeChunk(w.batch)}
	seen := map[[2]string]bool{}
	for _, c := range w.batch {
		kind := kinds[c.name]
		if at := [2]string{c.key, kind}; kind != "" && !seen[at] {
			seen[at] = true
			keys, args = append(keys, c.key), append(args, kind)
		}
	}
	var bad []int64
	err = w.server.do(ctx, func() (err error) {
		bad, err = stage.Run(ctx, w.server, keys, args...).Int64Slice()
		return err
	})
	wrong = map[string]string{}
	for _, i := range bad {
		wrong[keys[i+1]] = args[i+3].(string)
	}
	return wrong, err
}

// rejectKeys takes records out of the batch that need keys to hold what they don't.
func (w *exactlyOnce[T]) rejectKeys(wrong map[string]string) {
	why := map[int]string{}
	for _, c := range w.batch {
		if kind, ok := wrong[c.key]; ok && kinds[c.name] == kind {
			why[c.record] = fmt.Sprintf("%s %s: WRONGTYPE the key holds no %s", c.name, c.key, kind)
		}
	}
	w.batch = slices.DeleteFunc(w.batch, func(c command) bool { return why[c.record] != "" })
	for _, i := range slices.Sorted(maps.Keys(why)) {
		w.reject(w.held[i].v, w.held[i].time, why[i])
	}
}

// Prepare implements [pipeline.Committer].
func (w *exactlyOnce[T]) Prepare(ctx context.Context, checkpoint int64) ([]byte, error) {
	if err := w.stage(ctx); err != nil {
		return nil, err
	}
	if err := w.ask(ctx); err != nil {
		return nil, err
	}
	p := piece{Version: pieceVersion, mark: mark{w.run(), checkpoint}, After: w.after, Chunks: w.chunks}
	if w.chunks > 0 || len(w.handed) > 0 {
		p.Field, p.List, p.Letters = w.fieldOf(w.number), w.listOf(w.number), w.handed
		w.number, w.chunks, w.handed = w.number+1, 0, map[string]int{}
	}
	// A checkpoint that is complete mentions none that were committed before it.
	w.forget[checkpoint], w.done = w.done, nil
	return json.Marshal(p)
}

// ask finds out once behind what this run goes on. What an earlier run had prepared
// is committed by then.
func (w *exactlyOnce[T]) ask(ctx context.Context) error {
	if w.asked {
		return nil
	}
	err := w.server.do(ctx, func() error {
		is, err := w.look(ctx)
		if err == nil && is[0] != w.run() {
			err = errors.New("FENCED")
		}
		w.after = markOf(is)
		return err
	})
	w.asked = err == nil
	return explained(err)
}

// Commit implements [pipeline.Committer]. Of what an earlier run had prepared, all
// that is as old is committed first, by whichever subtask is the first: the engine
// shares it out, and the later of two commands is to have the last word.
func (w *exactlyOnce[T]) Commit(ctx context.Context, prepared []byte) error {
	p, err := parsePiece(prepared)
	if err != nil {
		return err
	}
	if p.Run != w.run() {
		for _, r := range w.restart {
			if r.Checkpoint > p.Checkpoint {
				break
			}
			if err := w.commit(ctx, r); err != nil {
				return err
			}
		}
		return nil
	}
	if err := w.commit(ctx, p); err != nil {
		return err
	}
	if p.Field != "" {
		w.done = append(w.done, p.Field)
	}
	for f, n := range p.Letters {
		w.kept[f] -= n
	}
	old := w.forget[p.Checkpoint]
	delete(w.forget, p.Checkpoint)
	if len(old) == 0 {
		return nil
	}
	return w.server.do(ctx, func() error { return w.server.HDel(ctx, w.hash, old...).Err() })
}

func (w *exactlyOnce[T]) commit(ctx context.Context, p piece) error {
	if p.Field == "" {
		return nil
	}
	err := w.server.do(ctx, func() error { return w.applyAll(ctx, p) })
	if err == nil {
		err = w.server.do(ctx, func() error { return w.finish(ctx, p) })
	}
	if err != nil {
		return fmt.Errorf("commands of checkpoint %d: %w", p.Checkpoint, explained(err))
	}
	return nil
}

// applyAll carries out what is left of a piece.
func (w *exactlyOnce[T]) applyAll(ctx context.Context, p piece) error {
	if p.Chunks == 0 {
		return nil
	}
	at, err := w.server.HGet(ctx, w.hash, p.Field).Result()
	switch {
	case errors.Is(err, goredis.Nil):
		return w.gone(ctx, p)
	case err != nil || at == "done":
		return err
	}
	applied, err := strconv.Atoi(at)
	if err != nil {
		return fmt.Errorf("field %s of %q is %q", p.Field, w.hash, at)
	}
	for i := applied + 1; i <= p.Chunks; i++ {
		if err := w.apply(ctx, p, i); err != nil {
			return err
		}
	}
	return nil
}

// gone says that what waited is not there any more: another run has removed it, or it
// is lost.
func (w *exactlyOnce[T]) gone(ctx context.Context, p piece) error {
	is, err := w.look(ctx)
	if err != nil {
		return err
	}
	if is[0] != "" && is[0] != w.run() {
		return errors.New("FENCED")
	}
	if w.replay && p.Run != w.run() {
		w.env.Logger.Warn("commands of the checkpoint are not there any more, because they were carried out or are lost, and the sink goes on without them, as it was told",
			"checkpoint", p.Checkpoint, "list", p.List)
		return nil
	}
	return fmt.Errorf("Redis has lost commands that waited in %q: it was started without what it had (see appendonly), has removed keys "+ //nolint:staticcheck // a name
		"(see maxmemory-policy), or is another one. %s", p.List, w.goOn("To go on without them"))
}

// apply carries out one chunk.
func (w *exactlyOnce[T]) apply(ctx context.Context, p piece, i int) error {
	raw, err := w.server.LIndex(ctx, p.List, int64(i-1)).Bytes()
	if errors.Is(err, goredis.Nil) {
		return w.missing(ctx, p)
	}
	if err != nil {
		return err
	}
	list, err := decodeChunk(raw)
	if err != nil {
		return fmt.Errorf("list %q: %w", p.List, err)
	}
	keys := []string{w.hash, w.prefix + w.rejectedField()}
	args := []any{w.run(), p.Field, i, w.rejectedField()}
	for _, c := range list {
		keys = append(keys, c.key)
		args = append(args, c.time, c.name, len(c.args))
		for _, a := range c.args {
			args = append(args, a)
		}
	}
	rejected, err := apply.Run(ctx, w.server, keys, args...).Int64()
	if err != nil {
		return err
	}
	if rejected > 0 {
		w.refused, w.left = true, true
		w.rejected.Add(rejected)
		w.env.Logger.Warn("commands were refused when they were carried out, and will be dead letters",
			"commands", rejected, "until then in", keys[1])
	}
	return nil
}

// missing is for a list that ends early: another subtask may have finished the piece
// since, as happens at a start.
func (w *exactlyOnce[T]) missing(ctx context.Context, p piece) error {
	at, err := w.server.HGet(ctx, w.hash, p.Field).Result()
	if err == nil && at == "done" {
		return nil
	}
	if err != nil && !errors.Is(err, goredis.Nil) {
		return err
	}
	return w.gone(ctx, p)
}

// finish forgets a piece that was carried out.
func (w *exactlyOnce[T]) finish(ctx context.Context, p piece) error {
	keys := []string{w.hash, p.List}
	checkpoint := ""
	if w.env.Checkpoints && (!w.replay || p.Run == w.run()) { // it stays told until something new is committed
		checkpoint = strconv.FormatInt(p.Checkpoint, 10)
	}
	args := []any{w.run(), p.Field, p.Run, checkpoint}
	for _, f := range slices.Sorted(maps.Keys(p.Letters)) {
		keys = append(keys, w.prefix+f)
		args = append(args, p.Letters[f], f)
	}
	return finish.Run(ctx, w.server, keys, args...).Err()
}

// letter is a rejected command as it is kept: time, error, name, key, arguments.
type letter []string

// handOver hands over as dead letters what was refused as it was carried out. It is
// to be part of the checkpoint that comes, since the one it belonged to is complete;
// until that is, Redis remembers it.
func (w *exactlyOnce[T]) handOver(ctx context.Context) error {
	if !w.refused {
		return nil
	}
	fields := []string{w.rejectedField()}
	if w.env.Subtask == 0 {
		all, err := w.rejectedFields(ctx)
		if err != nil {
			return err
		}
		fields = append(fields, all...)
	}
	for _, f := range fields {
		if err := w.handOverList(ctx, f); err != nil {
			return err
		}
	}
	w.refused, w.left = false, false
	return nil
}

// rejectedFields returns those of earlier runs.
func (w *exactlyOnce[T]) rejectedFields(ctx context.Context) (fields []string, err error) {
	err = w.server.do(ctx, func() (err error) {
		fields, err = w.server.HKeys(ctx, w.hash).Result()
		return err
	})
	slices.Sort(fields)
	return slices.DeleteFunc(fields, func(f string) bool {
		return !strings.HasPrefix(f, "rejected:") || strings.HasPrefix(f, "rejected:"+w.run()+":")
	}), err
}

func (w *exactlyOnce[T]) handOverList(ctx context.Context, field string) error {
	var raw []string
	err := w.server.do(ctx, func() (err error) {
		raw, err = w.server.LRange(ctx, w.prefix+field, int64(w.kept[field]), -1).Result()
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range raw {
		var l letter
		if err := json.Unmarshal([]byte(r), &l); err != nil || len(l) < 4 {
			l = letter{"0", "a command that was refused", r, ""}
		}
		time, _ := strconv.ParseInt(l[0], 10, 64) // 0 where there is none
		w.env.Reject(pipeline.DeadLetter{Time: time, Record: strings.Join(l[2:], " "), Error: l[1]})
	}
	if len(raw) > 0 {
		w.kept[field] += len(raw)
		w.handed[field] += len(raw)
	}
	return nil
}

// Close implements [pipeline.Closer].
func (w *exactlyOnce[T]) Close() error {
	if w.closed {
		return nil
	}
	var err error
	if w.left {
		err = fmt.Errorf("the last commit left commands that Redis refuses: they are in %q, and go to the dead-letter output when the "+
			"job is started again", w.prefix+w.rejectedField())
	}
	return errors.Join(err, w.writer.Close())
}
