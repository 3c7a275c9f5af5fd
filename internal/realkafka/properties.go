package realkafka

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// properties returns the settings of one of the nodes, with those of o over ours.
func properties(o Options, nodes []*node, n *node) string {
	settings := map[string]string{
		"node.id":                        strconv.Itoa(n.id),
		"process.roles":                  "broker,controller",
		"controller.quorum.voters":       voters(nodes),
		"controller.listener.names":      "CONTROLLER",
		"inter.broker.listener.name":     "PLAINTEXT",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
		"listeners":                      fmt.Sprintf("PLAINTEXT://%s,CONTROLLER://%s", n.addr(), loopback(n.control)),
		"log.dirs":                       n.dir + "/data",
		"auto.create.topics.enable":      "false",
		"num.partitions":                 "1",
		// Records of tests are of any age, and are not to be removed for it.
		"log.retention.ms": "-1",
	}
	maps.Copy(settings, replication(len(nodes)))
	maps.Copy(settings, small)
	maps.Copy(settings, prompt)
	if o.Secure {
		maps.Copy(settings, secureListener(n))
		settings["listeners"] += ",SECURE://" + loopback(n.securePort)
	}
	maps.Copy(settings, o.Config)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s=%s\n", key, settings[key])
	}
	return b.String()
}

// replication returns what has every record on all of up to three nodes, with one
// of three to spare.
func replication(nodes int) map[string]string {
	copies, least := strconv.Itoa(min(nodes, 3)), strconv.Itoa(max(1, min(nodes, 3)-1))
	return map[string]string{
		"default.replication.factor":                       copies,
		"min.insync.replicas":                              least,
		"offsets.topic.replication.factor":                 copies,
		"transaction.state.log.replication.factor":         copies,
		"transaction.state.log.min.isr":                    least,
		"share.coordinator.state.topic.replication.factor": copies,
		"share.coordinator.state.topic.min.isr":            least,
	}
}

// small keeps a node in its little heap and few threads.
var small = map[string]string{
	"offsets.topic.num.partitions":                 "3",
	"transaction.state.log.num.partitions":         "3",
	"share.coordinator.state.topic.num.partitions": "1",
	"log.cleaner.dedupe.buffer.size":               "4194304", // 128 MiB by default
	"num.network.threads":                          "2",
	"num.io.threads":                               "4",
	"background.threads":                           "2",
}

// prompt makes a cluster notice within seconds what it would leave for longer. A
// dead broker keeps its leaderships, and may not come back, until its session ends;
// much shorter, and a busy machine looks like a dead broker.
var prompt = map[string]string{
	"broker.session.timeout.ms":                                   "3000",
	"broker.heartbeat.interval.ms":                                "500",
	"replica.lag.time.max.ms":                                     "5000",
	"group.initial.rebalance.delay.ms":                            "0",
	"transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
	"log.segment.delete.delay.ms":                                 "1000",
}

func voters(nodes []*node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, fmt.Sprintf("%d@%s", n.id, loopback(n.control)))
	}
	return strings.Join(all, ",")
}
