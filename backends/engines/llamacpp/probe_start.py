"""The process that compares layouts: `python -m backends.engines.llamacpp.probe_start`.

Reads a job as a line of JSON and writes lines of JSON: steps done, at last the gaps or an error. It ends with
the process that gave the job, also while it imports what comparing takes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping


def main() -> None:
    """Carry out one job."""
    out, line = sys.stdout, sys.stdin.readline()
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def tell(document: Mapping[str, object]) -> None:
        out.write(json.dumps(document) + "\n")
        out.flush()

    try:
        from backends.engines.llamacpp.probe_process import compare

        gaps = compare(json.loads(line), tell)
    except Exception as error:  # noqa: BLE001 - the parent goes on without
        tell({"error": f"{type(error).__name__}: {error}"})
    else:
        tell({"gaps": gaps})
    # Taking libraries apart takes time, and can crash.
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
