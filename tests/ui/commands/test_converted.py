"""What the command line says of converted files, and what stopping a conversion leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backends.settings import Settings, load_settings
from tests.support.converting import ROOT, write_large
from tests.support.programs import running
from ui.cli import parser_for
from ui.commands import doctor
from ui.i18n import Translator


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = load_settings({"SNUG_HOME": str(tmp_path / "家 home")})
    made.converted.mkdir(parents=True)
    (made.converted / f"old-{'0' * 20}-q8_0.gguf").write_bytes(bytes(2048))
    return made


def run(settings: Settings, *arguments: str, language: str = "en") -> None:
    doctor.run(parser_for("doctor").parse_args(arguments), settings, Translator(language))  # type: ignore[arg-type]


def test_the_doctor_says_what_they_take(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run(settings)
    assert "Converted models: 1, which take 2.0 KB of at most 40.0 GB in " in capsys.readouterr().out
    assert list(settings.converted.glob("*.gguf"))


def test_the_doctor_clears_them(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run(settings, "--clear-converted", language="zh")
    assert "已释放 2.0 KB。" in capsys.readouterr().out
    assert not list(settings.converted.glob("*.gguf"))
    run(settings, "--clear-converted", "--json")
    assert json.loads(capsys.readouterr().out)["freed_bytes"] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of its own is POSIX's")
def test_ctrl_c_while_converting_leaves_nothing_half_written(tmp_path: Path) -> None:
    import pty

    large = write_large(tmp_path / "large", ROOT / "assets" / "starter", layers=6)
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "ui.cli", "ask", str(large), "Hello?", "--preset", "cpu"]
    environment = {**os.environ, "SNUG_HOME": str(tmp_path / "home")}
    with running(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        said = b""
        while b"Converting once for llama.cpp" not in said:
            said += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            try:
                said += os.read(ours, 4096)
            except OSError:  # the terminal's other end is closed
                process.wait(60)
        process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 130
    assert b"Traceback" not in said
    folder = tmp_path / "home" / "converted"
    assert [path for path in folder.rglob("*") if path.suffix in {".gguf", ".part"}] == []
