package realkafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Right is something that [User] may do on the secure listener.
type Right struct {
	Operation kmsg.ACLOperation
	Resource  kmsg.ACLResourceType
	Name      string // of the resource; the cluster's is kafka-cluster
}

func (r Right) String() string { return fmt.Sprintf("%v on %v %q", r.Operation, r.Resource, r.Name) }

// NewSecure starts a broker as [New] does, with [Options.Secure], on which [User]
// may do nothing but what [Cluster.Grant] says. Clients of the plain listener may do
// everything. The settings are added to [Options.Config].
func NewSecure(t testing.TB, settings map[string]string) *Cluster {
	t.Helper()
	all := map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
	}
	maps.Copy(all, settings)
	return New(t, Options{Secure: true, Config: all})
}

// Grant gives [User] rights. They hold when it returns.
func (c *Cluster) Grant(t testing.TB, rights ...Right) {
	t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	for _, r := range rights {
		acl := kmsg.NewCreateACLsRequestCreation()
		acl.ResourceType, acl.ResourceName, acl.ResourcePatternType = r.Resource, r.Name, kmsg.ACLResourcePatternTypeLiteral
		acl.Principal, acl.Host, acl.Operation, acl.PermissionType = principal, "*", r.Operation, kmsg.ACLPermissionTypeAllow
		req.Creations = append(req.Creations, acl)
	}
	c.change(t, rights, true, func(ctx context.Context, client *kgo.Client) error {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		for _, r := range resp.Results {
			err = errors.Join(err, kerr.ErrorForCode(r.ErrorCode))
		}
		return err
	})
}

// Revoke takes rights back that were granted. They are gone when it returns.
func (c *Cluster) Revoke(t testing.TB, rights ...Right) {
	t.Helper()
	req := kmsg.NewPtrDeleteACLsRequest()
	for _, r := range rights {
		f := kmsg.NewDeleteACLsRequestFilter()
		f.ResourceType, f.ResourceName, f.ResourcePatternType = r.Resource, kmsg.StringPtr(r.Name), kmsg.ACLResourcePatternTypeLiteral
		f.Principal, f.Operation, f.PermissionType = kmsg.StringPtr(principal), r.Operation, kmsg.ACLPermissionTypeAllow
		req.Filters = append(req.Filters, f)
	}
	c.change(t, rights, false, func(ctx context.Context, client *kgo.Client) error {
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return err
		}
		for _, r := range resp.Results {
			err = errors.Join(err, kerr.ErrorForCode(r.ErrorCode))
		}
		return err
	})
}

const principal = "User:" + User

// change has the controller change rights, and waits until the broker has heard of
// it.
func (c *Cluster) change(t testing.TB, rights []Right, granted bool, do func(context.Context, *kgo.Client) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), topicTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := do(ctx, client); err != nil {
		t.Fatalf("rights %v: %v", rights, err)
	}
	for _, r := range rights {
		for {
			has, err := hasRight(ctx, client, r)
			if err == nil && has == granted {
				break
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%v: granted is %v, want %v: %v", r, has, granted, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

func hasRight(ctx context.Context, client *kgo.Client, r Right) (bool, error) {
	req := kmsg.NewPtrDescribeACLsRequest()
	req.ResourceType, req.ResourceName, req.ResourcePatternType = r.Resource, kmsg.StringPtr(r.Name), kmsg.ACLResourcePatternTypeLiteral
	req.Principal, req.Operation, req.PermissionType = kmsg.StringPtr(principal), r.Operation, kmsg.ACLPermissionTypeAllow
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return false, err
	}
	return len(resp.Resources) > 0, kerr.ErrorForCode(resp.ErrorCode)
}
