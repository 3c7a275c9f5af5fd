// Package kafkagroup asks brokers for a consumer group that is nobody's to be a
// member of: one in which a job records its checkpoints, or one that it commits to
// for others to see.
package kafkagroup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Pointer is the metadata of an offset that was committed by the transaction of a
// checkpoint: it says which one. It is kept as JSON.
type Pointer struct {
	Version    int    `json:"millrace"`
	Job        string `json:"job"`
	Number     int64  `json:"number"`     // of the checkpoint; they only grow
	Checkpoint string `json:"checkpoint"` // its name
}

// PointerVersion is the version of pointers that are written.
const PointerVersion = 1

// ParsePointer returns the pointer that an offset's metadata is, of whatever
// version, if it is one.
func ParsePointer(metadata *string) (Pointer, bool) {
	var p Pointer
	if metadata == nil || json.Unmarshal([]byte(*metadata), &p) != nil || p.Version == 0 {
		return Pointer{}, false
	}
	return p, true
}

// Members returns how many members a group has, of either protocol; none if there
// is no such group.
func Members(ctx context.Context, brokers kmsg.Requestor, group string) (int, error) {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(ctx, brokers)
	if err != nil {
		return 0, err
	}
	members := 0
	for _, g := range resp.Groups {
		if e := kerr.ErrorForCode(g.ErrorCode); !errors.Is(e, kerr.GroupIDNotFound) {
			err = errors.Join(err, e)
		}
		members += len(g.Members)
	}
	if err != nil || members > 0 {
		return members, err
	}
	return consumers(ctx, brokers, group), nil
}

// consumers is Members for groups of the newer protocol (KIP-848), which
// DescribeGroups does not know. Brokers that have no such groups answer with an
// error.
func consumers(ctx context.Context, brokers kmsg.Requestor, group string) int {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(ctx, brokers)
	if err != nil {
		return 0
	}
	members := 0
	for _, g := range resp.Groups {
		members += len(g.Members)
	}
	return members
}

// Offsets returns all offsets that were committed to a group; none if there is no
// such group. With stable, offsets in transactions whose end is under way are an
// error that may be tried again.
func Offsets(ctx context.Context, brokers kmsg.Requestor, group string, stable bool) (*kmsg.OffsetFetchResponseGroup, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = stable
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(ctx, brokers)
	if err != nil {
		return nil, err
	}
	if len(resp.Groups) != 1 {
		return nil, fmt.Errorf("asked for one group's offsets, got %d", len(resp.Groups))
	}
	err = kerr.ErrorForCode(resp.Groups[0].ErrorCode)
	if errors.Is(err, kerr.GroupIDNotFound) {
		err = nil
	}
	for _, t := range resp.Groups[0].Topics {
		for _, p := range t.Partitions {
			err = errors.Join(err, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	return &resp.Groups[0], err
}
