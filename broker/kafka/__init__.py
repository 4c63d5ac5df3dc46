"""The Kafka listener: Kafka's wire protocol, one file per API, over the same rooms as the gRPC door."""
