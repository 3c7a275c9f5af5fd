#!/bin/sh
# Runs a job on Flink or on Kafka Streams, as ../README.md has it:
#
#     run.sh -engine flink-heap|flink-rocksdb|kafka-streams -job count -brokers HOST:PORT …
#
# It builds nothing: mvn -q -f benchmarks/peers/java/pom.xml package does.
set -eu

target=$(dirname "$0")/target
own=$target/lib-flink # what the engines do not share
case " $* " in
*" kafka-streams "*) own=$target/lib-streams ;;
esac

# The heap is the contract's. The parallel collector takes less processor time than G1 does
# in a heap of this size: 6.2 s and 7.9 s for one count. What is opened is what Flink's own
# scripts open. PEERS_JAVA_OPTIONS is for further options, to profile for instance.
exec java \
	-Xmx768m \
	-XX:+UseParallelGC \
	--add-opens=java.base/java.lang=ALL-UNNAMED \
	--add-opens=java.base/java.net=ALL-UNNAMED \
	--add-opens=java.base/java.io=ALL-UNNAMED \
	--add-opens=java.base/java.nio=ALL-UNNAMED \
	--add-opens=java.base/sun.nio.ch=ALL-UNNAMED \
	--add-opens=java.base/java.lang.reflect=ALL-UNNAMED \
	--add-opens=java.base/java.text=ALL-UNNAMED \
	--add-opens=java.base/java.time=ALL-UNNAMED \
	--add-opens=java.base/java.util=ALL-UNNAMED \
	--add-opens=java.base/java.util.concurrent=ALL-UNNAMED \
	--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED \
	--add-opens=java.base/java.util.concurrent.locks=ALL-UNNAMED \
	${PEERS_JAVA_OPTIONS:-} \
	-cp "$target/classes:$target/lib/*:$own/*" \
	peers.Main "$@"
