// Peers runs the same jobs on this library and on other engines, and says of every
// goal whether it is met. What the jobs are, and what every side keeps to, is in
// README.md.
//
//	go build -C benchmarks/peers -o ../../bin/bench-peers .
//	mvn -q -f benchmarks/peers/java/pom.xml package
//	bin/withkafka bin/bench-peers
//
// The input is brought once. Then all sides of a job run in turns, each in a process
// of its own, and what they write is compared before any time counts: one line that
// differs ends the program. Ratios are of records by processor time of the side's
// process, the median of the rounds; the broker's is no part of it.
package main
