// Package devkafka is an Apache Kafka to develop and test with: a broker inside
// the process, that needs neither a JVM nor a port of its own to be known.
//
//	broker, err := devkafka.Start(devkafka.Options{
//		Dir:    "kafka-data",
//		Topics: []devkafka.Topic{{Name: "hits", Partitions: 6}},
//	})
//	defer broker.Close()
//	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addr()))
//
// It is franz-go's kfake behind a data directory: it speaks the protocol over
// TCP, with consumer groups and transactions, so any client may connect. It is
// not a Kafka to keep data in: there is one copy, and no authentication unless
// the options say so.
package devkafka
