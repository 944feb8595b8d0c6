"""What an installer said, in words for a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from ui.setup.failures import explain
from ui.setup.places import LOG


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "disk is full"),
        ("OSError: [WinError 112] There is not enough space on the disk", "disk is full"),
        ("The virtual environment was not created: ensurepip is not available.", "python3-venv"),
        ("[WinError 5] Access is denied: 'torch_cpu.dll'", "close other Snug windows"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "no permission"),
        ("OSError: [Errno 30] Read-only file system", "no permission"),
        ("[WinError 206] The filename or extension is too long", "shorter path"),
        ("SSLCertVerificationError: CERTIFICATE_VERIFY_FAILED", "certificate"),
        ("Retrying: Temporary failure in name resolution\nERROR: No matching", "could not be reached"),
        ("ReadTimeoutError: HTTPSConnectionPool: Read timed out.", "could not be reached"),
        ("ProxyError('Cannot connect to proxy.')", "proxy"),
        ("ERROR: No matching distribution found for torch==2.13.0", "install Python 3.12"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "damaged"),
        ("OSError: [WinError 126] Error loading c10.dll", "vc_redist"),
        ("MemoryError", "out of memory"),
        ("some lines\nERROR: a new kind of failure\n", "a new kind of failure"),
        ("", "it said nothing"),
    ],
)  # fmt: skip
def test_a_failure_is_explained(tmp_path: Path, output: str, words: str) -> None:
    (tmp_path / LOG).touch()
    text = str(explain("Install", output, str(tmp_path), 10**8))
    assert words in text
    assert [line.partition(":")[0] for line in text.splitlines()] == ["error", "why", "try"]
    assert LOG in text
