package tenancy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// Node is a process of the deployment, as the catalogue knows it.
type Node struct {
	ID string
	// Revision is the catalogue's up to which the node has followed all changes.
	Revision int64
	Started  time.Time
	Seen     time.Time
}

// NodeStore is an optional interface of a [Store]: it keeps what the nodes say of themselves.
type NodeStore interface {
	// SaveNode keeps a node's record and removes those that were not seen since before.
	SaveNode(ctx context.Context, n Node, before time.Time) error
	// RemoveNode removes a record. An unknown id is no error.
	RemoveNode(ctx context.Context, id string) error
	// Nodes returns all records, ordered by id.
	Nodes(ctx context.Context) ([]Node, error)
}

const (
	// beatInterval is how often a node gives a sign of life, however it follows changes.
	beatInterval = 5 * time.Second
	// deadAfter is after which silence nobody waits for a node any more.
	deadAfter = 3 * beatInterval
	// settleInterval is how often a node looks whether it has ended what may not go on.
	settleInterval = 10 * time.Millisecond
	// forgetAfter is how long the record of a dead node is kept.
	forgetAfter = 24 * time.Hour
)

// NodesBehindError says that nodes have not followed a change yet.
type NodesBehindError struct {
	Nodes []Node
	Err   error // why nobody waits any longer
}

func (e *NodesBehindError) Error() string {
	var ids []string
	for _, n := range e.Nodes {
		ids = append(ids, n.ID)
	}
	return fmt.Sprintf("nodes have not followed the catalogue yet: %s: %v", strings.Join(ids, ", "), e.Err)
}

func (e *NodesBehindError) Unwrap() error { return e.Err }

// Code returns CodeTenant.
func (e *NodesBehindError) Code() Code { return CodeTenant }

// Nodes returns the started nodes of the deployment that were heard of lately, this one included.
func (tn *Tenancy) Nodes(ctx context.Context) ([]Node, error) {
	store, ok := tn.cfg.Store.(NodeStore)
	if !ok {
		return nil, fmt.Errorf("list nodes: %w: the Store has no method Nodes", errors.ErrUnsupported)
	}
	all, err := store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	dead := tn.lifecycle.now().Add(-deadAfter)
	var alive []Node
	for _, n := range all {
		if n.Seen.After(dead) {
			alive = append(alive, n)
		}
	}
	return alive, nil
}

// AwaitNodes waits until every node follows all that was changed before the call: after a suspension,
// until no node serves the tenant any more, requests that were under way included. When ctx ends first
// it returns a [*NodesBehindError] with the nodes that do not. A node that was not heard of for fifteen
// seconds counts as dead; if it lives, its caches end with their TTL. One that does not poll
// (resolution.poll_interval is 0) cannot know that it has followed everything, and is always behind.
func (tn *Tenancy) AwaitNodes(ctx context.Context) error {
	feed, ok := tn.cfg.Directory.(ChangeFeed)
	if !ok {
		return fmt.Errorf("wait for other nodes: %w: the Directory has no change feed that they could follow", errors.ErrUnsupported)
	}
	now, err := feed.Changes(ctx, -1)
	if err != nil {
		return unavailable(ctx, err)
	}
	var behind []Node
	for {
		nodes, err := tn.Nodes(ctx)
		switch {
		case ctx.Err() != nil:
			return &NodesBehindError{Nodes: behind, Err: context.Cause(ctx)}
		case err != nil:
			return err
		}
		behind = nil
		for _, n := range nodes {
			if n.Revision < now.Revision {
				behind = append(behind, n)
			}
		}
		if len(behind) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return &NodesBehindError{Nodes: behind, Err: context.Cause(ctx)}
		case <-time.After(waitForNodes):
		}
	}
}

// waitForNodes is how often somebody who waits for other nodes looks again.
const waitForNodes = 50 * time.Millisecond

// pulse tells the catalogue that this node lives and how far it has followed.
type pulse struct {
	tn      *Tenancy
	store   NodeStore // nil when there is nobody to tell
	reached atomic.Int64
	wake    chan struct{} // after a change of reached
	node    Node          // as it was told last
	failing bool
}

func (tn *Tenancy) newPulse(revision int64) *pulse {
	store, _ := tn.cfg.Store.(NodeStore)
	p := &pulse{
		tn: tn, store: store, wake: make(chan struct{}, 1),
		node: Node{ID: tn.cfg.NodeID, Revision: revision, Started: tn.lifecycle.now()},
	}
	p.reached.Store(revision)
	return p
}

// reach says that all changes up to revision were applied.
func (p *pulse) reach(revision int64) {
	if p.reached.Swap(revision) == revision {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default: // it is awake
	}
}

// run tells what was reached once all that may not go on has ended, and that the node lives, until ctx
// ends.
func (p *pulse) run(ctx context.Context) {
	if p.store == nil {
		return
	}
	defer p.end(ctx)
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	for {
		var look <-chan time.Time
		if revision := p.reached.Load(); revision != p.node.Revision {
			if !p.tn.revocations.settled() {
				look = time.After(settleInterval)
			} else if p.beat(ctx, revision); p.failing {
				look = time.After(retryAfter)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-look:
		case <-ticker.C:
			p.beat(ctx, p.node.Revision)
		}
	}
}

// beat tells the catalogue up to which revision the node has followed.
func (p *pulse) beat(ctx context.Context, revision int64) {
	if p.store == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	n := p.node
	n.Revision, n.Seen = revision, p.tn.lifecycle.now()
	err := p.store.SaveNode(ctx, n, n.Seen.Add(-forgetAfter))
	if err == nil {
		p.node = n
	}
	if (err != nil) != p.failing && ctx.Err() == nil {
		if p.failing = err != nil; p.failing {
			p.tn.log.WarnContext(ctx, "tenancy: other nodes cannot see that this one lives", "error", err)
		}
	}
}

// end takes the node off the list.
func (p *pulse) end(ctx context.Context) {
	if p.store == nil || p.node.Seen.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	if err := p.store.RemoveNode(ctx, p.node.ID); err != nil {
		p.tn.log.WarnContext(ctx, "tenancy: cannot tell other nodes that this one has stopped", "error", err)
	}
}
