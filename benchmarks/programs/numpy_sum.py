# /// script
# dependencies = ["numpy"]
# ///
import time

began = time.perf_counter()
import numpy  # noqa: E402 (what is measured)

IMPORT_MS = (time.perf_counter() - began) * 1000


def handler(event):
    return {"sum": int(numpy.arange(10).sum()), "import_ms": IMPORT_MS}
