package redistest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Slots is how many there are in a cluster.
const Slots = 16384

// syncAtOnce is for whoever may be a master: it waits five seconds for more replicas else before it serves the first.
const syncAtOnce = "repl-diskless-sync-delay 0"

// StartCluster starts a cluster of masters, each with an equal share of the slots.
func StartCluster(t testing.TB, masters int) []*Server {
	t.Helper()
	nodes := make([]*Server, masters)
	for i := range nodes {
		nodes[i] = Start(t, Options{Lines: []string{"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000", syncAtOnce}})
		nodes[i].Must("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(Slots*i/masters), strconv.Itoa(Slots*(i+1)/masters-1))
		nodes[i].Must("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, other := range nodes[1:] {
		host, port, _ := net.SplitHostPort(other.Address)
		nodes[0].Must("CLUSTER", "MEET", host, port)
	}
	for _, n := range nodes {
		Eventually(t, 20*time.Second, func() error {
			info, err := n.Do("CLUSTER", "INFO")
			if err == nil && (!strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(masters))) {
				err = errors.New("the cluster is not complete yet")
			}
			return err
		})
	}
	return nodes
}

// AddReplica gives a master of a cluster a replica, which takes its place if a majority of masters says so.
func AddReplica(t testing.TB, nodes []*Server, master *Server) *Server {
	t.Helper()
	replica := Start(t, Options{Lines: []string{"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000",
		"cluster-replica-validity-factor 0", syncAtOnce}})
	host, port, _ := net.SplitHostPort(master.Address)
	replica.Must("CLUSTER", "MEET", host, port)
	id := master.Must("CLUSTER", "MYID")
	Eventually(t, 20*time.Second, func() error {
		_, err := replica.Do("CLUSTER", "REPLICATE", id)
		return err
	})
	for _, n := range nodes {
		Eventually(t, 20*time.Second, func() error {
			text, err := n.Do("CLUSTER", "REPLICAS", id)
			if err == nil && !strings.Contains(text, replica.Address) {
				err = errors.New("the replica is not known yet")
			}
			return err
		})
	}
	Eventually(t, 20*time.Second, func() error {
		info, err := replica.Do("INFO", "replication")
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New("the replica has not caught up")
		}
		return err
	})
	return replica
}

// Owner is the node of [StartCluster] that has the slot of a key at first.
func Owner(t testing.TB, nodes []*Server, key string) *Server {
	t.Helper()
	slot, err := strconv.Atoi(nodes[0].Must("CLUSTER", "KEYSLOT", key))
	if err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		if slot < Slots*(i+1)/len(nodes) {
			return nodes[i]
		}
	}
	t.Fatalf("slot %d has no owner", slot)
	return nil
}

// MoveSlot moves a slot with its keys from one master of a cluster to another, a few keys at a time, as `redis-cli --cluster
// reshard` does. between is called after each step.
func MoveSlot(t testing.TB, nodes []*Server, slot string, from, to *Server, between func()) {
	t.Helper()
	fromID, toID := from.Must("CLUSTER", "MYID"), to.Must("CLUSTER", "MYID")
	to.Must("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Must("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	between()
	host, port, _ := net.SplitHostPort(to.Address)
	for {
		keys, err := from.list("CLUSTER", "GETKEYSINSLOT", slot, "2")
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == 0 {
			break
		}
		from.Must(append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, keys...)...)
		between()
	}
	// First who takes it, then who gives it away, then all that have yet to hear of it.
	for _, n := range append([]*Server{to, from}, nodes...) {
		n.Must("CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
}

// StartSentinels starts a master with a replica, and three Sentinels that watch it under the name "marks".
func StartSentinels(t testing.TB) (servers, sentinels []*Server) {
	t.Helper()
	master := Start(t, Options{Lines: []string{syncAtOnce}})
	host, port, _ := net.SplitHostPort(master.Address)
	replica := Start(t, Options{Lines: []string{"replicaof " + host + " " + port, syncAtOnce}})
	Eventually(t, 20*time.Second, func() error {
		info, err := replica.Do("INFO", "replication")
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = errors.New("the replica has not caught up")
		}
		return err
	})
	for range 3 {
		sentinels = append(sentinels, Start(t, Options{Flags: []string{"--sentinel"}, Lines: []string{
			fmt.Sprintf("sentinel monitor marks %s %s 2", host, port),
			"sentinel down-after-milliseconds marks 500",
			"sentinel failover-timeout marks 3000",
		}}))
	}
	for _, s := range sentinels {
		Eventually(t, 20*time.Second, func() error {
			text, err := s.Do("SENTINEL", "CKQUORUM", "marks")
			if err == nil && !strings.Contains(text, "3 usable") {
				err = errors.New(text)
			}
			if err == nil {
				text, err = s.Do("SENTINEL", "REPLICAS", "marks")
			}
			if err == nil && !strings.Contains(text, replica.Address) {
				err = errors.New("the Sentinel does not know the replica yet")
			}
			return err
		})
	}
	return []*Server{master, replica}, sentinels
}

// Addresses of servers.
func Addresses(servers []*Server) []string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.Address
	}
	return list
}
