"""The gRPC contracts, their generated code, and the words every part of Klamm shares."""
