"""The values of setting up: a described machine in, a plan of steps out."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What a decision depends on; a file with any of these keys describes a machine to --dry-run.

    The values that stand here are those of a new 64-bit Linux machine without a GPU.
    """

    os: str = "linux"  # windows | linux | macos
    machine: str = "x86_64"  # x86_64 | arm64
    python: str = "3.12.0"
    executable: str = "python3"
    other_python: str | None = None  # a suitable interpreter found when `python` is not suitable
    root: str
    data_folder: str
    root_writable: bool = True
    free_bytes: int = 100 * 1024**3
    long_paths: bool = False  # Windows setting
    nvidia_driver: str | None = None
    compute_capability: str | None = None  # of the most capable GPU
    index_reachable: bool = True
    venv: str = "missing"  # missing | foreign | broken | no_pip | stale | ready
    old_pip: bool = True
    damaged: list[str] = field(default_factory=list)  # names of installed packages with missing files
    installed_torch: str | None = None
    test_extra: bool = False
    double_click: bool = False
    snug_venv: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One line of progress; `command` is what to run, or for "sweep" the names to delete."""

    action: str
    title: str
    command: list[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """The environment's folder, the build of torch, what a person should know, and what to do in order."""

    venv: str
    torch: str
    notes: list[str]
    steps: list[Step]
