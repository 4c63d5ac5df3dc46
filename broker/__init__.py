"""The broker process: partition replicas on disk and the services in front of them."""
