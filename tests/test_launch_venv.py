"""How launch.py looks at, mends and leaves an environment: real small ones, made without pip."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import launch

LAUNCHER = Path(launch.__file__)
CLI = """
import os, sys
def main(arguments):
    if arguments == ["wait"] or arguments == ["web"]:
        print("ready", flush=True)
        sys.stdin.read()
    print(ascii([arguments, os.getcwd(), sys.argv[0], "" in sys.path, sys.flags.utf8_mode]))
    return 5
"""


@pytest.fixture(scope="module")
def bare_venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("环境 with space") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


@pytest.fixture
def copy_of_snug(tmp_path: Path, bare_venv: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a person has it: launch.py, pyproject.toml, ui/cli.py and a finished environment."""
    root = tmp_path / "我的 snug"
    (root / "ui").mkdir(parents=True)
    (root / "ui" / "__init__.py").touch()
    (root / "ui" / "cli.py").write_text(CLI, encoding="utf-8")
    for name in ("launch.py", "pyproject.toml"):
        shutil.copy(LAUNCHER.parent / name, root / name)
    shutil.copytree(bare_venv, root / ".venv", symlinks=True)
    monkeypatch.setattr(launch, "ROOT", str(root))
    monkeypatch.delenv("SNUG_VENV", raising=False)
    launch.write_stamp(str(root / ".venv"), [""])
    return root


def start(root: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "launch.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=False,
    )


def install(folder: Path, name: str, files: dict[str, str]) -> Path:
    """Put a package into an environment as pip does; returns its folder."""
    site = Path(launch.site_packages(str(folder)))
    info = site / f"{name}-1.0.dist-info"
    for path, text in (files | {f"{info.name}/METADATA": "Name: x"}).items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
    rows = [f"{path},sha256=x,{len(text)}" for path, text in files.items()]
    (info / "RECORD").write_text("\n".join([*rows, f"{name}/__pycache__/a.pyc,,", f"{info.name}/RECORD,,"]))
    (info / "INSTALLER").write_text("pip\n")
    return site / name


def test_a_warm_start_hands_over_at_once_and_keeps_the_persons_folder(
    copy_of_snug: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "ui").mkdir(parents=True)  # must not shadow ours
    done = start(copy_of_snug, "plan", "./my model", "模型", cwd=elsewhere)
    arguments, cwd, program, cwd_in_path, utf8 = eval(done.stdout)
    assert (arguments, cwd) == (["plan", "./my model", "模型"], str(elsewhere))
    assert (program, cwd_in_path, utf8) == ("launch.py", False, 1)
    assert done.returncode == 5
    assert done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_in_the_program_ends_with_130_and_no_traceback(copy_of_snug: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(copy_of_snug / "launch.py"), "web"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda root: (root / ".venv" / launch.STAMP).unlink(), id="no stamp"),
        pytest.param(lambda root: (root / ".venv" / launch.STAMP).write_text('{"pyp'), id="half a stamp"),
        pytest.param(lambda root: (root / ".venv" / launch.STAMP).write_text("[]"), id="not a stamp"),
        pytest.param(lambda root: Path(launch.venv_python(str(root / ".venv"))).unlink(), id="no python"),
        pytest.param(lambda root: (root / "pyproject.toml").write_text("x = 1"), id="other requirements"),
        pytest.param(lambda root: install(root / ".venv", "extra", {"extra/a.py": "1"}), id="other packages"),
        pytest.param(lambda root: shutil.rmtree(root / ".venv"), id="no environment"),
    ],
)
def test_whatever_changed_ends_the_warm_start(copy_of_snug: Path, damage: Any) -> None:
    venv = str(copy_of_snug / ".venv")
    assert launch.is_ready(venv, "web")
    damage(copy_of_snug)
    assert not launch.is_ready(venv, "web")


def test_the_stamp_knows_the_test_extra(copy_of_snug: Path) -> None:
    venv = str(copy_of_snug / ".venv")
    assert not launch.is_ready(venv, "test")
    launch.write_stamp(venv, ["", "test"])
    launch.write_stamp(venv, [""])
    assert launch.is_ready(venv, "test")  # still noted, as it is still what pyproject.toml asks for


@pytest.mark.parametrize("path", ["wheel/a.py", "wheel"])
def test_a_file_deleted_from_a_package_ends_the_warm_start(copy_of_snug: Path, path: str) -> None:
    venv = copy_of_snug / ".venv"
    install(venv, "wheel", {"wheel/a.py": "1", "wheel/b.py": "2"})
    launch.write_stamp(str(venv), [""])
    (venv / "pip-cache").mkdir()  # beside the packages: no matter
    site = Path(launch.site_packages(str(venv)))
    (site / "wheel" / "__pycache__").mkdir()
    assert launch.is_ready(str(venv), "web")
    target = site / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert not launch.is_ready(str(venv), "web")


@pytest.mark.parametrize(
    ("make", "state"),
    [
        pytest.param(shutil.rmtree, "missing", id="nothing"),
        pytest.param(lambda venv: launch.clear(str(venv)), "missing", id="an empty folder"),
        pytest.param(
            lambda venv: (launch.clear(str(venv)), (venv / launch.LOCK).touch()),
            "missing",
            id="only our lock",
        ),
        pytest.param(lambda venv: (venv / "pyvenv.cfg").unlink(), "broken", id="stopped before pyvenv.cfg"),
        pytest.param(
            lambda venv: shutil.rmtree(Path(launch.venv_python(str(venv))).parent),
            "broken",
            id="programs deleted",
        ),
        pytest.param(lambda venv: None, "no_pip", id="stopped before pip"),
    ],
)
def test_a_half_made_environment_is_recognised(copy_of_snug: Path, make: Any, state: str) -> None:
    make(copy_of_snug / ".venv")
    assert launch.examine_venv(str(copy_of_snug / ".venv"))["venv"] == state


def test_a_persons_own_folder_is_never_touched(
    copy_of_snug: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").touch()
    monkeypatch.setenv("SNUG_VENV", str(photos))
    assert launch.main(["doctor"]) == 2
    assert "in use for something else" in capsys.readouterr().err
    assert [entry.name for entry in photos.iterdir()] == ["cat.jpg"]


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SNUG_VENV", str(tmp_path / "file" / "venv"))
    monkeypatch.setenv("SNUG_TORCH_INDEX", "http://127.0.0.1:9/")
    assert launch.main(["doctor"]) == 3
    shown = capsys.readouterr().err
    assert str(tmp_path / "file" / "venv") in shown
    assert "SNUG_VENV" in shown


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        pytest.param(lambda package, info: None, [], id="whole"),
        pytest.param(
            lambda package, info: (package / "a.py").unlink(), ["tool-1.0.dist-info"], id="file deleted"
        ),
        pytest.param(
            lambda package, info: (package / "a.py").write_text("x"), ["tool-1.0.dist-info"], id="truncated"
        ),
        pytest.param(
            lambda package, info: (package / "a.py").write_text("longer than before"), [], id="edited"
        ),
        pytest.param(
            lambda package, info: (info / "INSTALLER").unlink(), ["tool-1.0.dist-info"], id="interrupted"
        ),
        pytest.param(
            lambda package, info: (info / "RECORD").unlink(), ["tool-1.0.dist-info"], id="no record"
        ),
        pytest.param(
            lambda package, info: (info / "RECORD").write_text("a,b\n,"),
            ["tool-1.0.dist-info"],
            id="bad record",
        ),
        pytest.param(lambda package, info: package.with_name("~ool").mkdir(), ["~ool"], id="half removed"),
    ],
)
def test_incomplete_packages_are_found(tmp_path: Path, damage: Any, found: list[str]) -> None:
    site = Path(launch.site_packages(str(tmp_path)))
    package = install(tmp_path, "tool", {"tool/a.py": "import os\n", "tool/b.py": "1\n"})
    damage(package, package.parent / "tool-1.0.dist-info")
    assert launch.damaged_packages(str(package.parent)) == found
    assert site.name == "site-packages"


def test_a_failed_step_leaves_no_stamp_and_says_what_to_do(copy_of_snug: Path) -> None:
    venv = str(copy_of_snug / ".venv")
    fail = [launch.venv_python(venv), "-c", "raise SystemExit('[Errno 28] No space left on device')"]
    plan = launch.Plan(
        venv, "cpu", [], [launch.Step("packages", "Install", fail), launch.Step("start", "", [])]
    )
    lock = launch.Lock(venv, launch.Report())
    with pytest.raises(launch.Problem, match="the disk is full"):
        launch.carry_out(plan, lock, launch.Report(), [""])
    lock.file.close()
    assert not launch.is_ready(venv, "web")
    assert "No space left" in Path(venv, launch.LOG).read_text(encoding="utf-8")


def test_finished_steps_are_stamped_last(copy_of_snug: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venv = str(copy_of_snug / ".venv")
    see = f"import os; assert not os.path.exists({str(Path(venv, launch.STAMP))!r})"
    steps = [
        launch.Step("verify", "Look", [launch.venv_python(venv), "-c", see]),
        launch.Step("start", "", []),
    ]
    lock = launch.Lock(venv, launch.Report())
    launch.carry_out(launch.Plan(venv, "cpu", ["Mind the gap."], steps), lock, launch.Report(), [""])
    lock.file.close()
    assert launch.is_ready(venv, "web")
    shown = capsys.readouterr().err.splitlines()
    assert shown[1] == "note: Mind the gap."
    assert shown[2].startswith("[1/1] Look ... done (")


INTERRUPTED = """
import sys
sys.path.insert(0, {root!r})
import launch
launch.listen()
lock = launch.Lock({venv!r}, launch.Report())
step = launch.Step("packages", "Install", [sys.executable, "-c", {child!r}])
try:
    launch.run_step(step, {venv!r}, lock, launch.Report(), True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def installing(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path, int]]:
    """A launcher in the middle of a step, the environment's folder, and the process id of the step."""
    venv = tmp_path / "venv"
    child = "import os, time; print('working', os.getpid(), '\\n...', flush=True); time.sleep(60)"
    code = INTERRUPTED.format(root=str(LAUNCHER.parent), venv=str(venv), child=child)
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "working" in line)
        pid = int(line.split()[-1])
        yield process, venv, pid
        for left in (process.pid, pid):
            with contextlib.suppress(OSError):
                os.kill(left, signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_during_a_step_takes_the_step_along(
    installing: tuple[subprocess.Popen[str], Path, int], number: signal.Signals
) -> None:
    process, venv, child = installing
    process.send_signal(number)
    assert process.wait(20) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    launch.Lock(str(venv), launch.Report()).file.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows ends the step with its console")
def test_a_killed_launcher_keeps_others_out_until_its_step_ends(
    installing: tuple[subprocess.Popen[str], Path, int],
) -> None:
    import fcntl

    process, venv, child = installing
    second = launch.Lock.__new__(launch.Lock)
    with (venv / launch.LOCK).open("a+", encoding="utf-8") as second.file:
        assert not second.take()
        process.kill()
        process.wait()
        assert not second.take()
        os.kill(child, signal.SIGKILL)
        fcntl.flock(second.file, fcntl.LOCK_EX)  # comes back as soon as the step has gone


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
    (tmp_path / launch.LOG).touch()
    text = str(launch.explain("Install", output, str(tmp_path), 10**8))
    assert words in text
    assert [line.partition(":")[0] for line in text.splitlines()] == ["error", "why", "try"]
    assert launch.LOG in text


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["Collecting gradio<7,>=6.31"], "looking for gradio"),
        (["Collecting torch==2.13.0+cu130"], "looking for torch"),
        (["Collecting nvidia-ml-py>=13.580"], "looking for nvidia-ml-py"),
        (["Collecting"], ""),
        (["  Downloading torch-2.13.0-cp312.whl (888 MB)", "Progress 444000000 of 888000000"],
         "downloading torch 50% of 888 MB"),
        (["Progress 5 of 0"], ""),
        (["Installing collected packages: a, b, c"], "unpacking 3 packages"),
        (["Requirement already satisfied: x"], ""),
    ],
)  # fmt: skip
def test_progress_is_told_in_a_few_words(lines: list[str], shown: str) -> None:
    text = context = ""
    for line in lines:
        text, context = launch.progress_of(line, context)
    assert text == shown


@pytest.mark.parametrize(
    ("programs", "ours"),
    [
        (["py.exe", "python.exe"], True),
        (["PYTHON3.12.EXE"], True),
        (["cmd.exe", "python.exe"], False),
        (["powershell.exe", "py.exe", "python.exe"], False),
        ([""], False),
        ([], False),
    ],
)
def test_the_window_waits_only_when_no_shell_keeps_it_open(programs: list[str], ours: bool) -> None:
    assert launch.only_python(programs) is ours


def test_a_named_environment_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNUG_VENV", raising=False)
    assert len(launch.possible_folders()) == 2
    monkeypatch.setenv("SNUG_VENV", "there")
    assert launch.possible_folders() == [str(Path.cwd() / "there")]


def test_the_stamp_holds_values_only(copy_of_snug: Path) -> None:
    stamp = json.loads((copy_of_snug / ".venv" / launch.STAMP).read_text(encoding="utf-8"))
    assert set(stamp) == {"pyproject", "python", "driver", "files", "requirements"}
    assert stamp["requirements"][""] == launch.read_requirements()[""]
