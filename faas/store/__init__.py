"""What the platform keeps in Redis, and the Redis it brings along. See README.md."""
