"""What node and instance say to each other: messages, limits and a codec without I/O. See runtimes/PROTOCOL.md."""
