"""Starts the supervisor: `python -I -B -X utf8 start.py`, with FAAS_DIR and FAAS_INSTANCE in the environment.

The three private folders are on the module path only while the runtime imports itself, so that user code
finds its own `msgpack`, `link.py` or `calls.py` and none of ours.
"""

import os
import sys


def main() -> int:
    here = os.path.dirname(os.path.abspath(__file__))
    private = [here, os.path.join(here, "lib"), os.path.join(here, "vendor")]
    sys.path[:0] = private
    from faas_runtime import supervisor

    for folder in private:
        sys.path.remove(folder)
        sys.path_importer_cache.pop(folder, None)
    return supervisor.main()


if __name__ == "__main__":
    sys.exit(main())
