"""An in-memory stand-in for `backends.service.Service`: answers at once, crashes and waits on command."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backends.errors import ImageUnreadable, ModelNotFound, NotLoaded, SnugError, WorkerCrashed
from backends.hardware.types import Cpu, Disk, Gpu, GpuProcess, HardwareSnapshot, Ram
from backends.messages import (
    Done,
    Event,
    ImagePart,
    Message,
    Progress,
    Queued,
    SamplingParams,
    TextDelta,
    Timings,
    Usage,
)
from backends.models.types import ModelEntry, ModelInfo, TextGeometry, VisionGeometry
from backends.placement.needs import Needs
from backends.placement.types import Alternative, DeviceShare, Expected, Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.reports import DeviceMeasured, LoadReport, Measurement, UnloadReport
from backends.service.converted import ConvertedUsage
from backends.settings import Settings
from backends.text import Text

GIB = 2**30

GPU_MACHINE = HardwareSnapshot(
    os="linux",
    gpus=(
        Gpu(
            0,
            "NVIDIA GeForce RTX 4070",
            12 * GIB,
            int(4.9 * GIB),
            utilization=31,
            temperature_c=54,
            display=True,
            processes=(GpuProcess(4242, "blender", 3 * GIB),),
        ),
    ),
    ram=Ram(32 * GIB, 14 * GIB),
    cpu=Cpu("AMD Ryzen 7 5800X", 8, ("avx2",)),
    disk=Disk("/home/someone/.local/share/snug", 210 * GIB),
    driver_version="580.1",
    cuda_version=(13, 0),
)

CPU_MACHINE = HardwareSnapshot(
    os="linux",
    gpus=(),
    ram=Ram(24 * GIB, 22 * GIB),
    cpu=Cpu("Some CPU", 2, ("avx2",)),
    disk=Disk("/data", 50 * GIB),
    notes=(Text("hardware.no_driver", "No NVIDIA driver was found: models run on the processor."),),
)

FAKE_MODEL = ModelInfo(
    path=Path("/models/fake"),
    name="fake",
    family="llava",
    architecture="LlavaForConditionalGeneration",
    format="safetensors",
    dtype="float32",
    parameters=11_000_000,
    weights_bytes=44_000_000,
    text=TextGeometry(192, 512, 4, 3, 3, 64, 640, 4096),
    vision=VisionGeometry(6, 192, 768, 3, 64, 8, 64, 576),
    modules=(),
    files=(),
)


def make_plan(request: PlanRequest, *, gpu: bool = True) -> Plan:
    """A plan whose precision tells its preset, for pages that show plans."""
    on_gpu = gpu and request.preset is not Preset.CPU
    precision = {Preset.MID: "int8", Preset.LOW: "nf4"}.get(request.preset, "fp32")
    device = "cuda:0" if on_gpu else "cpu"
    shares = [DeviceShare("cpu", "RAM", 20 * GIB, 2 * GIB, 64 * 2**20, 200 * 2**20, 0, 500 * 2**20)]
    if on_gpu:
        shares.insert(
            0,
            DeviceShare(
                "cuda:0", "NVIDIA GeForce RTX 4070", 11 * GIB, 7 * GIB, GIB, GIB // 2, 2**27, 500 * 2**20
            ),
        )
    return Plan(
        request=request,
        model_path=f"/models/{request.model}",
        family="llava",
        parameters=11_000_000,
        layers=4,
        format="safetensors",
        engine="transformers",
        precision=precision,
        verdict="fits",
        device_map=(("model.embed", device), ("model.layers.0", device)),
        gpu_layers=4 if on_gpu else 0,
        cpu_layers_mode=None if on_gpu else "compute",
        context_tokens=2048,
        images=1,
        image_tokens=576,
        offload_dir=None,
        int8_fp32_cpu_offload=False,
        visible_gpus=(0,) if on_gpu else (),
        devices=tuple(shares),
        load_peak_ram_bytes=GIB,
        disk_needed_bytes=0,
        expected=Expected(2.0, 0.4, 38.0),
        reasons=(Text("reason.fake", "Everything fits on one <device>."),),
        alternatives=(
            Alternative("transformers", "nf4", "fits", 20.0, Text("reason.fake_alt", "Lower quality.")),
        ),
    )


NOTHING_KEPT = ConvertedUsage(Path("/data/converted"), 0, 0, 0, 40 * GIB)
NOTHING_LOADED = Text("move.nothing_loaded", "No model is in memory.")


@dataclass
class FakeService:
    """Implements the facade. `script` is the answer's pieces; `hold` makes an answer wait for `go`."""

    settings: Settings
    machine: HardwareSnapshot = GPU_MACHINE
    script: Sequence[str] = ("The ", "answer ", "is **three**.")
    hold: bool = False
    load_hold: bool = False
    go: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, tuple[Message, ...], SamplingParams]] = field(default_factory=list)
    primed: list[tuple[str, tuple[Message, ...]]] = field(default_factory=list)
    unprimed: list[str] = field(default_factory=list)
    loads: list[Plan] = field(default_factory=list)
    fail_with: SnugError | None = None
    queue_first: bool = False
    reload: Text | None = NOTHING_LOADED
    leave_room: bool = False
    loads_differently: bool = False
    kept_files: ConvertedUsage = NOTHING_KEPT

    def __post_init__(self) -> None:
        self._state = SimpleNamespace(
            status="empty",
            plan=None,
            report=None,
            error=None,
            progress=None,
            busy=False,
            waiting=0,
            worker_pid=None,
            failed=None,
            measured=None,
            moving=False,
            left_s=None,
            lasted_s=None,
        )
        self._cancelled: dict[str, threading.Event] = {}

    def snapshot(self) -> HardwareSnapshot:
        return self.machine

    def models(self) -> tuple[ModelEntry, ...]:
        return (
            ModelEntry("starter", "Snug starter", Path("/models/starter")),
            ModelEntry("/models/llava", "llava-1.5-7b", Path("/models/llava")),
        )

    def plan(self, request: PlanRequest, hardware: HardwareSnapshot | None = None) -> Plan:
        machine = hardware or self.machine
        return make_plan(request, gpu=bool(machine.gpus))

    def usable(self) -> HardwareSnapshot:
        return self.machine

    def inspect(self, model: str, named: Overrides | None = None) -> ModelInfo:
        return FAKE_MODEL

    def leans_on(self, model: str) -> tuple[str, ...]:
        return ()

    def needs(self, request: PlanRequest, hardware: HardwareSnapshot | None = None) -> Needs:
        raise ModelNotFound(path=request.model, detail="Nobody knows what it would need.")

    def import_image(self, source: Path | bytes, name: str) -> ImagePart:
        from PIL import Image, UnidentifiedImageError

        data = source if isinstance(source, bytes) else source.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self.settings.images.mkdir(parents=True, exist_ok=True)
        target = self.settings.images / f"{digest}.png"
        try:
            import io

            with Image.open(io.BytesIO(data)) as picture:
                rgb = picture.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise ImageUnreadable(name=name, detail="It is not a picture that Snug knows.") from error
        rgb.save(target)
        return ImagePart(target, digest, rgb.width, rgb.height)

    def calibrate(self) -> None:
        """Nothing to measure."""

    def load(self, plan: Plan) -> Iterator[Progress]:
        self.loads.append(plan)
        self._state.status, self._state.plan, self._state.error = "loading", plan, None
        for done in (0, 40, 100):
            self._state.progress = Progress("read", done * 2**20, 100 * 2**20)
            yield self._state.progress
            if self.load_hold and done == 40:
                self.go.wait(30)
        if self.fail_with is not None:
            self._state.status, self._state.error = "empty", self.fail_with
            raise self.fail_with
        self._state.report = LoadReport(
            engine="transformers",
            precision=plan.precision,
            device_map=plan.device_map,
            dtype="float32",
            quantized=0,
            offload_dir=None,
            seconds=1.2,
            peaks=(),
            supports_images=True,
            context_tokens=2048,
        )
        self._state.status, self._state.progress, self._state.worker_pid = "ready", None, 12345

    def why_reload(self, plan: Plan) -> Text | None:
        return self.reload

    def set_leave_room(self, on: bool) -> None:
        self.leave_room = on

    def converted(self) -> ConvertedUsage:
        return self.kept_files

    def clear_converted(self) -> int:
        freed = self.kept_files.removable_bytes
        left = self.kept_files.used_bytes
        self.kept_files = replace(self.kept_files, nbytes=left, models=1 if left else 0)
        return freed

    def cancel_load(self) -> None:
        self.go.set()

    def unload(self) -> UnloadReport:
        self._state.status, self._state.plan, self._state.report = "empty", None, None
        self._state.measured = None
        return UnloadReport(GIB, 0, 0.3)

    def state(self) -> Any:
        return SimpleNamespace(**vars(self._state))

    def chat(self, session: str, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[Event]:
        if self._state.status == "crashed":
            raise self._state.error
        if self._state.status != "ready":
            raise NotLoaded
        self.asked.append((session, tuple(messages), sampling))
        stop = self._cancelled[session] = threading.Event()
        if self.queue_first:
            yield Queued(1)
        yield Progress("encode", 0, 0)
        for piece in self.script:
            if self._state.status == "crashed":
                raise self._state.error
            if stop.is_set():
                break
            yield TextDelta(piece)
            if self.hold:
                while not self.go.wait(0.01) and not stop.is_set():
                    if self._state.status == "crashed":
                        raise self._state.error
        images = sum(len(message.images) for message in messages)
        self._state.measured = self._measured(self._state.plan)
        yield Done(
            "cancelled" if stop.is_set() else "stop",
            Usage(600, 576 * images, len(self.script)),
            Timings(0.41, 38.2, 1.0),
            tuple(range(len(self.script))),
        )

    @staticmethod
    def _measured(plan: Plan) -> Measurement:
        """A tenth more than weights and expectation, on every device."""
        devices = tuple(
            DeviceMeasured(
                share.device,
                share.total_bytes * 11 // 10,
                share.weights_bytes,
                share.total_bytes,
                "process" if share.device == "cpu" else "driver",
            )
            for share in plan.devices
        )
        return Measurement(603, 1, 1.2, GIB, 0.41, 38.2, devices)

    def cancel(self, session: str) -> None:
        if session in self._cancelled:
            self._cancelled[session].set()

    def prime(self, session: str, messages: Sequence[Message]) -> None:
        self.primed.append((session, tuple(messages)))

    def cancel_prime(self, session: str) -> None:
        self.unprimed.append(session)

    def restart(self) -> Iterator[Progress]:
        yield from self.load(self._state.plan)

    def crash(self) -> None:
        """What the page sees when somebody kills the worker."""
        self._state.error = WorkerCrashed(stage="answering", detail="It was ended by signal 9.")
        self._state.status, self._state.worker_pid = "crashed", None

    def close(self) -> None:
        self.go.set()


def fake_settings(home: Path) -> Settings:
    """Settings that write under `home` only."""
    root = Path(__file__).resolve().parents[2]
    return replace(
        Settings(
            home=home, model_folders=(), starter=root / "assets/starter", examples=root / "assets/examples"
        )
    )
