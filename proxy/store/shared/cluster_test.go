package shared_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/proxy/store"
	"gatepost/proxy/store/engine"
	"gatepost/proxy/store/redistest"
	"gatepost/proxy/store/storetest"
)

func atCluster(nodes []*redistest.Server) store.Redis {
	c := at(redistest.Addresses(nodes)...)
	c.Cluster = true
	return c
}

func ownerOfSender(t *testing.T, nodes []*redistest.Server) *redistest.Server {
	return redistest.Owner(t, nodes, engine.Place("greylist", sender[0]))
}

// Without a replica the whole cluster is down: the others refuse, too.
func TestANodeOfAClusterIsDown(t *testing.T) {
	t.Parallel() // it mostly waits for the nodes to agree
	nodes := redistest.StartCluster(t, 3)
	dead := ownerOfSender(t, nodes)
	state := func(want string) {
		for _, n := range nodes {
			if n == dead && want == "fail" {
				continue
			}
			redistest.Eventually(t, 20*time.Second, func() error {
				info, err := n.Do("CLUSTER", "INFO")
				if err == nil && !strings.Contains(info, "cluster_state:"+want) {
					err = errors.New("the cluster's state is not " + want)
				}
				return err
			})
		}
	}
	c := atCluster(nodes)
	outage(t, c, c, func() { dead.Kill(); state("fail") }, func() { dead.Restart(); state("ok") })
}

func TestAReplicaTakesOver(t *testing.T) {
	t.Parallel() // it mostly waits for the nodes to agree
	nodes := redistest.StartCluster(t, 3)
	dead := ownerOfSender(t, nodes)
	replica := redistest.AddReplica(t, nodes, dead)
	clock := filtertest.NewClock()
	mx1, mx2 := newProxy(t, atCluster(nodes), clock), newProxy(t, atCluster(nodes), clock)
	mx1.mustBe(t, filters.GreylistNew, sender...)
	mx1.knowsItself(t, filters.Mark.Exists, sender...)
	dead.Kill()
	mx1.mustBe(t, filters.GreylistEarly, sender...)
	clock.Advance(storetest.Terms.Delay)
	mx1.mustBe(t, filters.GreylistPassed, sender...)
	redistest.Eventually(t, 20*time.Second, func() error {
		info, err := replica.Do("INFO", "replication")
		if err == nil && !strings.Contains(info, "role:master") {
			err = errors.New("the replica is none yet")
		}
		return err
	})
	mx1.isUsing(t, 20*time.Second)
	redistest.Eventually(t, 20*time.Second, func() error {
		if marks, err := mx2.Peek(t.Context(), "greylist", sender); err != nil || marks[0].Passed.IsZero() {
			return errors.New("mx2 does not know of the pass: " + state(mx2))
		}
		return nil
	})
}
