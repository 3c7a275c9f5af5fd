package redis

import (
	"context"
	"errors"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/pipeline"
)

// atLeastOnce has commands carried out as they come.
type atLeastOnce[T any] struct{ *writer[T] }

// Write implements [pipeline.Writer].
func (w *atLeastOnce[T]) Write(ctx context.Context, b *pipeline.Records[T]) error {
	return w.write(ctx, b, w.Flush)
}

var errIncrement = errors.New("IncrBy, HIncrBy and ZIncrBy are for ExactlyOnce: after a failure they would count twice")

// Flush implements [pipeline.Flusher]. It comes before a checkpoint, too.
func (w *atLeastOnce[T]) Flush(ctx context.Context) error {
	if len(w.batch) == 0 {
		return nil
	}
	todo := make([]*command, len(w.batch))
	for i := range w.batch {
		todo[i] = &w.batch[i]
		if strings.HasSuffix(todo[i].name, "INCRBY") {
			return errIncrement
		}
	}
	why := map[int]string{} // by record
	err := w.server.do(ctx, func() (err error) {
		todo, err = w.carryOut(ctx, todo, why)
		return err
	})
	if err != nil {
		return explained(err)
	}
	for i, h := range w.held {
		if text, ok := why[i]; ok {
			w.reject(h.v, h.time, text)
		}
	}
	w.fresh()
	return nil
}

// carryOut sends commands, and returns those from the first on that has to be sent
// again, with the reason. Records that the server refuses are noted.
func (w *atLeastOnce[T]) carryOut(ctx context.Context, todo []*command, why map[int]string) ([]*command, error) {
	p := w.server.Pipeline()
	for _, c := range todo {
		send(ctx, p, c)
	}
	answers, err := p.Exec(ctx)
	if len(answers) < len(todo) {
		return todo, err
	}
	for i, c := range todo {
		err := answers[i].Err()
		var said goredis.Error
		switch {
		case err == nil, errors.Is(err, goredis.Nil):
		case goredis.HasErrorPrefix(err, "NOSCRIPT"):
			if err := guard.Load(ctx, w.server).Err(); err != nil {
				return todo[i:], err
			}
			return w.carryOut(ctx, todo[i:], why)
		case c.name == "XADD" && strings.Contains(err.Error(), "equal or smaller"):
		case passes(err) || !errors.As(err, &said) || isAboutClient(err):
			return todo[i:], err
		case why[c.record] == "":
			why[c.record] = c.name + " " + c.key + ": " + err.Error()
		}
	}
	return nil, nil
}

// isAboutClient says whether the server refuses us rather than a command.
func isAboutClient(err error) bool {
	text := err.Error()
	for _, begins := range []string{"NOAUTH", "WRONGPASS", "NOPERM"} {
		if strings.HasPrefix(text, begins) {
			return true
		}
	}
	return false
}

func send(ctx context.Context, p goredis.Pipeliner, c *command) {
	if c.version != "" && (c.name == "SET" || c.name == "HSET" || c.name == "ZADD") {
		args := make([]any, 0, len(c.args)+2)
		args = append(args, c.version, c.name)
		for _, a := range c.args {
			args = append(args, a)
		}
		guard.EvalSha(ctx, p, []string{c.key, versionsKey(c.key)}, args...)
		return
	}
	args := make([]any, 0, len(c.args)+2)
	args = append(args, c.name, c.key)
	for _, a := range c.args {
		args = append(args, a)
	}
	p.Do(ctx, args...)
}

// versionsKey names the hash of versions of a key, in the same slot of a cluster.
func versionsKey(key string) string {
	if open := strings.IndexByte(key, '{'); open >= 0 && strings.IndexByte(key[open:], '}') > 1 {
		return "millrace:versions:" + key
	}
	return "millrace:versions:{" + key + "}"
}

// closeTimeout bounds what an end of the job waits for a server that is away.
const closeTimeout = 5 * time.Second

// Close implements [pipeline.Closer]. A job that ends has flushed before; one that
// failed may have something left, which is written if the server is there.
func (w *atLeastOnce[T]) Close() error {
	if w.closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return errors.Join(w.Flush(ctx), w.writer.Close())
}
