"""Sizes and times of protocol version 1. PROTOCOL.md repeats them; a test compares the two."""

PROTOCOL = 1
FRAME_MAX = 1024 * 1024
"""Largest frame in bytes, length prefix not counted. A larger one ends the link."""
INLINE_MAX = 256 * 1024
"""Largest body carried inside INVOKE or REPLY; a larger one travels in CHUNK frames."""
CHUNK_MAX = 128 * 1024
"""Largest payload of one CHUNK."""
WINDOW = 512 * 1024
"""Bytes a sender may have on the way in one stream before it must wait for CREDIT."""
LOG_LINE_MAX = 16 * 1024
"""Longest log line in bytes; a longer one is cut visibly."""
TRACEBACK_MAX = 32 * 1024
"""Longest traceback in an ERROR, in characters; the middle is cut."""
HEADERS_MAX = 200
"""Most header lines in one request or reply."""
CANCEL_GRACE_MS = 2_000
"""Time between CANCEL and KILL for a handler that does not end."""
