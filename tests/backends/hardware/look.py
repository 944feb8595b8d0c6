"""Child process of the driver's tests: prints a snapshot of the machine for every line on stdin."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from backends.hardware.detect import Monitor


def main() -> None:
    with Monitor(Path.cwd()) as monitor:
        for _ in sys.stdin:
            snapshot = monitor.snapshot()
            document = asdict(snapshot) | {"notes": [[note.code, str(note)] for note in snapshot.notes]}
            print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
