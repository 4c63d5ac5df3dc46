"""What every node agrees on: metadata records, the immutable image they build, and its rules."""
