"""Check this machine for Snug, and say what to do about each finding."""

from __future__ import annotations

import argparse
import json

from backends import doctor
from backends.hardware.describe import to_json
from backends.service import Service
from backends.settings import Settings
from ui.i18n import Translator

_MARKS = {"ok": "[ok]  ", "warning": "[warn]", "broken": "[FAIL]"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--clear-converted",
        action="store_true",
        help="first remove the models that were converted for llama.cpp; each is converted again when needed",
    )


def run(options: argparse.Namespace, settings: Settings, say: Translator) -> int:
    """Examine, print, and return 0 (all fine), 1 (warnings) or 2 (broken)."""
    service = Service(settings, preload=False)
    try:
        snapshot = service.snapshot()
        freed = service.clear_converted() if options.clear_converted else None
    finally:
        service.close()
    findings = doctor.examine(snapshot, settings)
    if options.json:
        document = {
            "hardware": to_json(snapshot),
            "findings": doctor.findings_to_json(findings, say.text),
            "ok": doctor.exit_code(findings) == 0,
        }
        if freed is not None:
            document["freed_bytes"] = freed
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return doctor.exit_code(findings)
    if freed is not None:
        print(say("kept_files.freed", size=freed) if freed else say("kept_files.none_freed"))
    for finding in findings:
        print(f"{_MARKS[finding.level]} {say.text(finding.title)}: {say.text(finding.detail)}")
        if finding.remedy is not None:
            print(f"       -> {say.text(finding.remedy)}")
    return doctor.exit_code(findings)
