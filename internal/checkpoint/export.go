package checkpoint

import "fmt"

// Export makes a savepoint of a checkpoint that is committed, and returns the
// savepoint's manifest. The checkpoint stays one.
func (s *Store) Export(m *Manifest, name string) (*Manifest, error) {
	p, err := s.Savepoint(name, m.ID)
	if err != nil {
		return nil, err
	}
	out, err := p.export(m)
	if err != nil {
		p.Abandon()
		return nil, err
	}
	return out, nil
}

func (p *Pending) export(m *Manifest) (*Manifest, error) {
	b, err := encodeManifest(m)
	if err != nil {
		return nil, p.failed("export "+m.Label(), err)
	}
	out, err := decodeManifest(b) // a copy of all of it
	if err != nil {
		return nil, p.failed("export "+m.Label(), err)
	}
	moved := map[string]File{}
	for f := range out.eachFile() {
		own, ok := moved[f.Path]
		if !ok {
			if own, err = p.take(*f, m); err != nil {
				return nil, err
			}
			moved[f.Path] = own
		}
		own.Name = f.Name
		*f = own
	}
	return out, p.Commit(out)
}

// take brings a file of another checkpoint or savepoint, verified.
func (p *Pending) take(f File, m *Manifest) (File, error) {
	if !f.shared() {
		b, err := p.s.Read(f, m)
		if err != nil {
			return File{}, p.failed("export", err)
		}
		return p.Private(f.Name, b)
	}
	if m.Kind == KindCheckpoint {
		return p.Reuse(f)
	}
	own, err := p.Share(p.s.local(m.base, f.Path), f.Name)
	if err == nil && own.sum() != f.sum() {
		err = fmt.Errorf("%s: file %s: %w", m.Label(), f.Path, differs(f.sum(), own.sum()))
	}
	return own, err
}
