"""Consumer groups: who is in them, who owns what, and the offsets they committed."""
