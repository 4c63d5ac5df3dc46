"""The SDK: produce, consume and administer over gRPC."""
