// Package realkafka runs Apache Kafka's own broker for integration tests: on the
// loopback interface, in KRaft mode, with its data in a temporary folder. It is
// fetched with Maven when it is first needed, and wants a Java 17 to run on.
//
// A test that only needs a broker takes the one that all tests share, and a topic
// name that no other test has:
//
//	brokers := realkafka.Shared(t)
//	topic := realkafka.UniqueName("hits")
//	realkafka.MakeTopic(t, brokers, topic, 6)
//
// It is the one that MILLRACE_KAFKA_BROKERS names, as make integration sets it, and
// else one that is started for this test binary. A test that kills brokers, or needs
// several, or other settings, starts its own:
//
//	cluster := realkafka.New(t, realkafka.Options{Brokers: 3})
//	cluster.Kill(0)
//	...
//	err := cluster.Restart(ctx, 0)
//
// [Kcat] reads a topic with a client that is neither ours nor Go's.
//
// Three brokers are three combined ones, each broker and controller: two of three
// controllers are a majority, so that any one node may be killed. One JVM of 384 MiB
// a node is enough for tests, and none is left behind, however the test ends: the
// kernel kills them with the process that started them.
package realkafka
