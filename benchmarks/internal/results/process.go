package results

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Process is a side in a process of its own that takes orders: each is a line on its
// standard input, which it answers with JSON on its standard output. It ends with its
// input, and so with the process that started it.
type Process struct {
	cmd    *exec.Cmd
	orders io.WriteCloser
	answer *json.Decoder
}

// Start starts a side, whose standard error becomes that of this process.
func Start(name string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(name, args...)}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.orders, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.answer = json.NewDecoder(out)
	return p, p.cmd.Start()
}

// Order has the side do something and waits for what it answers.
func (p *Process) Order(order string, answer any) error {
	if _, err := fmt.Fprintln(p.orders, order); err != nil {
		return err
	}
	return p.answer.Decode(answer)
}

// Peak is the most memory that the process has ever had, in bytes; 0 where that is
// unknown.
func (p *Process) Peak() int64 { return peak(fmt.Sprint(p.cmd.Process.Pid)) }

// Stop lets the side end. What it says if it has failed is all that is known of why an
// order was not answered.
func (p *Process) Stop() error {
	return errors.Join(p.orders.Close(), p.cmd.Wait())
}

// Obey is a side's part of [Process]: it does what it is ordered, and answers, until
// there are no more orders.
func Obey(do func(order string) (answer any, err error)) error {
	answers := json.NewEncoder(os.Stdout)
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		answer, err := do(orders.Text())
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return orders.Err()
}
