"""Klamm: a replicated, partitioned log with Kafka's model, Raft controllers and a gRPC client."""

__version__ = "0.1.0"
