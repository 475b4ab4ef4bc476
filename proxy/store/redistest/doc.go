// Package redistest starts real redis-server or valkey-server processes on loopback for tests: single ones, a Cluster, a
// master with Sentinels; and a forwarder whose connections can be stalled and cut.
//
// The server is $GATEPOST_REDIS, or redis-server or valkey-server in $PATH, or build/redis/redis-server, where
// `.ci/redis build/redis` puts Debian's. Without one, tests that need it are skipped and say so.
package redistest
