"""Container limits: described file systems of both versions, and a real limited group where allowed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.hardware.cgroup import MemoryLimit, cpu_limit, memory_limit, oom_kills

ROOT = Path(__file__).resolve().parents[3]
MIB = 1024**2
NO_LIMIT_V1 = "9223372036854771712"

V2 = "35 30 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"
V2_NAMESPACED = "35 30 0:30 /../../outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
V1_MEMORY = "36 30 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory"
V1_CPU = "37 30 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V1_DOCKER = "36 30 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"


def machine(root: Path, groups: str, mounts: list[str], files: dict[str, str]) -> Path:
    for name, text in {
        "proc/self/cgroup": groups,
        "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + "\n".join(mounts) + "\n",
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        pytest.param("", [], {}, None, id="no cgroups at all"),
        pytest.param(
            "0::/user.slice\n", [V2], {"user.slice/memory.max": "max\n"}, None, id="v2 without limit"
        ),
        pytest.param(
            "0::/app\n",
            [V2],
            {
                "app/memory.max": f"{512 * MIB}\n",
                "app/memory.current": f"{300 * MIB}\n",
                "app/memory.stat": f"anon 5\ninactive_file {100 * MIB}\nactive_file {20 * MIB}\n",
            },
            MemoryLimit(512 * MIB, 332 * MIB),
            id="v2: cached files count as free",
        ),
        pytest.param(
            "0::/outer/inner\n",
            [V2],
            {
                "outer/memory.max": str(400 * MIB),
                "outer/memory.current": str(350 * MIB),
                "outer/inner/memory.max": str(600 * MIB),
                "outer/inner/memory.current": "0",
            },
            MemoryLimit(400 * MIB, 50 * MIB),
            id="v2: a group above may be tighter",
        ),
        pytest.param(
            "0::/\n",
            [V2_NAMESPACED],
            {"memory.max": str(256 * MIB), "memory.current": str(56 * MIB)},
            MemoryLimit(256 * MIB, 200 * MIB),
            id="v2 in a namespace: the mount point is the group",
        ),
        pytest.param(
            "4:memory:/\n",
            [V1_MEMORY],
            {"memory/memory.limit_in_bytes": NO_LIMIT_V1},
            None,
            id="v1 unlimited",
        ),
        pytest.param(
            "4:memory:/docker/abc\n",
            [V1_DOCKER],
            {
                "memory/memory.limit_in_bytes": str(1024 * MIB),
                "memory/memory.usage_in_bytes": str(900 * MIB),
                "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {200 * MIB}\n",
            },
            MemoryLimit(1024 * MIB, 324 * MIB),
            id="v1: a container that sees only its own group",
        ),
        pytest.param(
            "0::/app\n",
            [V2],
            {"app/memory.max": str(64 * MIB), "app/memory.current": str(80 * MIB)},
            MemoryLimit(64 * MIB, 0),
            id="a limit set below what is used leaves nothing, not less",
        ),
        pytest.param("nonsense\n", ["too short"], {"memory.max": "12"}, None, id="unreadable tables"),
    ],
)
def test_memory_limit(
    tmp_path: Path, groups: str, mounts: list[str], files: dict[str, str], expected: MemoryLimit | None
) -> None:
    assert memory_limit(machine(tmp_path, groups, mounts, files)) == expected


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "expected"),
    [
        pytest.param("0::/a\n", [V2], {"a/cpu.max": "max 100000\n"}, None, id="v2 without quota"),
        pytest.param("0::/a\n", [V2], {"a/cpu.max": "250000 100000\n"}, 2.5, id="v2: two and a half"),
        pytest.param(
            "3:cpu,cpuacct:/a\n",
            [V1_CPU],
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "400000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            4.0,
            id="v1: four",
        ),
        pytest.param(
            "3:cpu,cpuacct:/\n",
            [V1_CPU],
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            None,
            id="v1 without quota",
        ),
    ],
)
def test_cpu_limit(
    tmp_path: Path, groups: str, mounts: list[str], files: dict[str, str], expected: float | None
) -> None:
    assert cpu_limit(machine(tmp_path, groups, mounts, files)) == expected


def _own_group(controller: str, limit_file: str) -> Path:
    """The folder of this process's group of a version-1 controller, if it can be limited here."""
    base = Path("/sys/fs/cgroup") / controller
    own = base
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, names, group = line.split(":", 2)
        if controller in names.split(","):
            own = base / group.lstrip("/")
    if not (own / limit_file).exists() or not os.access(own, os.W_OK):
        pytest.skip(f"cgroup version 1 '{controller}' can't be written here")
    return own


@pytest.fixture
def limited(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh group with the limits given as (controller, {file: value})."""
    controller, values = request.param
    if sys.platform != "linux":
        pytest.skip("cgroups are Linux'")
    own = _own_group(controller, next(iter(values)))
    group = own / f"snug-test-{os.getpid()}"
    try:
        group.mkdir()
        for name, value in values.items():
            (group / name).write_text(value, encoding="utf-8")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no group may be made here: {error}")
    yield group
    group.rmdir()


def _detect_inside(group: Path) -> dict[str, dict[str, int]]:
    """Join `group` in a child and detect there."""
    script = (
        "import pathlib, sys, os, json\n"
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()), encoding='utf-8')\n"
        "from backends.hardware.detect import detect\n"
        "found = detect(pathlib.Path('.'))\n"
        "ram = {'total': found.ram.total_bytes, 'available': found.ram.available_bytes}\n"
        "notes = [note.code for note in found.notes]\n"
        "print(json.dumps({'ram': ram, 'cpu': {'cores': found.cpu.cores}, 'notes': notes}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(group)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    "limited", [("memory", {"memory.limit_in_bytes": str(700 * MIB)})], indirect=True, ids=["700 MiB"]
)
def test_detection_in_a_group_of_700_mib_sees_700_mib(limited: Path) -> None:
    found = _detect_inside(limited)
    assert found["ram"]["total"] == 700 * MIB
    assert 500 * MIB < found["ram"]["available"] < 700 * MIB
    assert "hardware.ram_limited" in found["notes"]


@pytest.mark.parametrize(
    "limited",
    [("cpu", {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"})],
    indirect=True,
    ids=["one CPU's time"],
)
def test_detection_with_one_cpus_time_sees_one_core(limited: Path) -> None:
    assert _detect_inside(limited)["cpu"]["cores"] == 1


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "vmstat", "expected"),
    [
        pytest.param("", [], {}, "", 0, id="nothing can be read"),
        pytest.param("", [], {}, "pgfault 9\noom_kill 4\n", 4, id="the whole machine's count"),
        pytest.param(
            "0::/app\n",
            [V2],
            {"app/memory.events": "oom 7\noom_kill 2\n"},
            "oom_kill 4\n",
            6,
            id="v2: this group's as well",
        ),
        pytest.param(
            "5:memory:/app\n",
            [V1_MEMORY],
            {"memory/app/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"},
            "",
            3,
            id="v1",
        ),
        pytest.param(
            "0::/app\n", [V2], {"app/memory.events": "oom_kill many\n"}, "oom_kill\n", 0, id="no figures"
        ),
    ],
)
def test_oom_kills(  # noqa: PLR0917 - the columns of the table above
    tmp_path: Path, groups: str, mounts: list[str], files: dict[str, str], vmstat: str, expected: int
) -> None:
    root = machine(tmp_path, groups, mounts, files)
    (root / "proc/vmstat").write_text(vmstat, encoding="utf-8")
    assert oom_kills(root) == expected


@pytest.mark.parametrize(
    "limited", [("memory", {"memory.limit_in_bytes": str(64 * MIB)})], indirect=True, ids=["64 MiB"]
)
def test_a_process_that_the_kernel_ends_is_counted(limited: Path) -> None:
    before = oom_kills()
    script = (
        "import pathlib, sys, os\n"
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()), encoding='utf-8')\n"
        "print(len(b'x' * (256 << 20)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(limited)], capture_output=True, check=False)
    if done.returncode == 0:
        pytest.skip("swap takes what the limit refuses")
    assert done.returncode == -9
    if not Path("/proc/vmstat").is_file():
        pytest.skip("this kernel does not count")
    assert oom_kills() > before
