"""How soon a person can use the page, how soon the starter answers, and what the page's process holds.

Each round starts the real server as `launch.py` does once its environment is ready, and opens the page in
headless Chromium. Gradio's own import is timed in a fresh process in the same round; medians are quoted.

    python -m benchmarks.page_start [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, sync_playwright

from benchmarks.report import Row, publish

ROOT = Path(__file__).parents[1]
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds and bytes of one start."""

    gradio_import_s: float
    served_s: float
    usable_s: float
    ready_s: float
    rss_bytes: int
    torch_mapped: bool


def gradio_import_s() -> float:
    """Seconds that a fresh interpreter takes to import Gradio."""
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], env=environment, check=True)
    return time.perf_counter() - begun


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_once(browser: Browser, home: Path) -> Round:
    """Start the server, open the page, wait until the starter is ready."""
    imported = gradio_import_s()
    port = free_port()
    page = browser.new_page()
    begun = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "ui.cli", "--no-browser", "--port", str(port)],
        cwd=ROOT,
        env={**os.environ, "SNUG_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = next(line for line in server.stdout if "http://" in line).split("http://")[1].split()[0]
        served = time.perf_counter() - begun
        page.goto("http://" + address.rstrip(".,"))
        page.locator("#message textarea").wait_for(state="visible")
        usable = time.perf_counter() - begun
        page.locator(".sn-state-ready, .state-ready").first.wait_for(state="visible", timeout=120_000)
        ready = time.perf_counter() - begun
        process = psutil.Process(server.pid)
        maps = Path(f"/proc/{server.pid}/maps")
        torch_mapped = maps.exists() and "libtorch" in maps.read_text(encoding="utf-8")
        return Round(imported, served, usable, ready, process.memory_info().rss, torch_mapped)
    finally:
        page.close()
        server.send_signal(signal.SIGINT)
        server.wait(30)


def main() -> None:
    """Run the rounds and publish their medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        start_once(browser, Path(home))  # fills the disk cache
        measured = [start_once(browser, Path(home)) for _ in range(rounds)]
        browser.close()

    def median(field: str) -> float:
        return statistics.median(getattr(one, field) for one in measured)

    gradio, served = median("gradio_import_s"), median("served_s")
    usable, ready, rss = median("usable_s"), median("ready_s"), max(one.rss_bytes for one in measured)
    rows = [
        Row("import of Gradio alone", f"{gradio:.1f} s"),
        Row("page served after start", f"{served:.1f} s", "Gradio's import + 2 s", served <= gradio + 2),
        Row("page usable in the browser after start", f"{usable:.1f} s"),
        Row(
            "starter ready after the page is served", f"{ready - served:.1f} s", "<= 6 s", ready - served <= 6
        ),
        Row("memory of the page's process", f"{rss / 2**20:.0f} MiB", "< 300 MiB", rss < 300 * 2**20),
        Row(
            "torch in the page's process",
            "yes" if any(one.torch_mapped for one in measured) else "no",
            "no",
            not any(one.torch_mapped for one in measured),
        ),
    ]
    publish("page_start", rows, {"rounds": [repr(one) for one in measured]})


if __name__ == "__main__":
    main()
