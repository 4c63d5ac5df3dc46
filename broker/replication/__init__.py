"""Leader and follower: the rules by which replicas agree, and the stream between them."""
