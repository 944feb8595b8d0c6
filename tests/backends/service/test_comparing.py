"""Setting what was held beside the formula: which figures are compared, and what is kept of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backends.errors import Cancelled, ModelNotFound, OutOfGpuMemory, OutOfRam, RamKilled, SnugError
from backends.hardware.describe import from_json
from backends.hardware.types import GpuProcess, HardwareSnapshot
from backends.history.measurements import Measurements
from backends.messages import Done, ImagePart, Message, Role, TextPart, Timings, Usage
from backends.models.identify import identify
from backends.models.types import ModelInfo
from backends.placement.estimate import Workload
from backends.placement.planner import plan as make_plan
from backends.placement.replay import replay
from backends.placement.types import Credit, DeviceShare, Overrides, Plan, PlanRequest
from backends.presets import Preset
from backends.reports import DevicePeak, LoadReport, Measurement
from backends.service.comparing import Answer, Comparison, Sources, driver_bytes, measured_device
from tests.support import checkpoints

MIB = 2**20
GIB = 2**30
CARD = "NVIDIA GeForce RTX 3060"
PID = 4321
SHARE = DeviceShare("cuda:0", CARD, 12 * GIB, 7 * GIB, GIB, 500 * MIB, 0, 500 * MIB)
MACHINE = from_json(
    {
        "os": "linux",
        "gpus": [{"index": 0, "name": CARD, "total_bytes": 12 * GIB, "free_bytes": 12 * GIB}],
        "ram": {"total_bytes": 64 * GIB, "available_bytes": 60 * GIB},
        "cpu": {"name": "A CPU", "cores": 8, "features": ["avx2"]},
        "disk": {"path": "/data", "free_bytes": 100 * GIB},
    },
    "a machine",
)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> ModelInfo:
    return identify(checkpoints.llava_15_7b(tmp_path_factory.mktemp("models") / "llava"))


def planned(llava: ModelInfo, preset: Preset = Preset.LOW, **overrides: object) -> Plan:
    return make_plan(MACHINE, llava, PlanRequest("llava", preset, Overrides(**overrides)))  # type: ignore[arg-type]


class TestOneDevice:
    def test_ram_is_the_peak_of_resident_memory(self) -> None:
        share = replace(SHARE, device="cpu")
        one = measured_device(DevicePeak("cpu", 7 * GIB, 9 * GIB), share, 0)
        assert (one.held_bytes, one.expected_bytes, one.source) == (9 * GIB, share.total_bytes, "process")

    def test_mapped_weights_count_in_full_however_many_of_their_pages_are_resident(self) -> None:
        peak = DevicePeak(
            "cpu", 7 * GIB, peak_bytes=3 * GIB, mapped_bytes=2 * GIB, mapped_weights_bytes=7 * GIB
        )
        assert measured_device(peak, replace(SHARE, device="cpu"), 0).held_bytes == 8 * GIB

    def test_a_gpu_is_what_the_driver_says_raised_to_torchs_peak(self) -> None:
        peak = DevicePeak("cuda:0", 7 * GIB, peak_bytes=9 * GIB, allocated_bytes=8 * GIB, now_bytes=8 * GIB)
        one = measured_device(peak, SHARE, driver=8 * GIB + 400 * MIB)
        assert (one.held_bytes, one.source) == (9 * GIB + 400 * MIB, "driver")
        assert one.expected_bytes == SHARE.total_bytes
        assert (one.allocated_bytes, one.reserved_bytes) == (8 * GIB, 9 * GIB)

    @pytest.mark.parametrize("driver", [0, GIB], ids=["told nothing", "told less than torch itself holds"])
    def test_without_the_driver_the_context_is_on_neither_side(self, driver: int) -> None:
        peak = DevicePeak("cuda:0", 7 * GIB, peak_bytes=9 * GIB, now_bytes=8 * GIB)
        one = measured_device(peak, SHARE, driver)
        assert (one.held_bytes, one.source) == (9 * GIB, "allocator")
        assert one.expected_bytes == SHARE.total_bytes - SHARE.overhead_bytes

    def test_the_drivers_figure_is_of_our_process_on_that_gpu(self) -> None:
        gpu = replace(
            MACHINE.gpus[0], processes=(GpuProcess(PID, "python", 5 * GIB), GpuProcess(1, "game", GIB))
        )
        machine = replace(MACHINE, gpus=(gpu, replace(gpu, index=1, processes=())))
        assert driver_bytes(machine, "cuda:0", PID) == 5 * GIB
        assert driver_bytes(machine, "cuda:1", PID) == 0
        assert driver_bytes(machine, "cpu", PID) == 0


class TestReplay:
    @pytest.mark.parametrize(
        ("preset", "gpu_layers"),
        [(Preset.LOW, None), (Preset.LOW, 10), (Preset.MID, None), (Preset.MID, 10), (Preset.CPU, None)],
    )
    def test_a_plans_own_work_gives_its_own_shares(
        self, preset: Preset, gpu_layers: int | None, llava: ModelInfo
    ) -> None:
        made = planned(llava, preset, gpu_layers=gpu_layers)
        work = Workload(made.context_tokens, made.images, made.image_tokens)
        again = replay(MACHINE, llava, made, work)
        assert [replace(share, budget_bytes=0) for share in again] == [
            replace(share, budget_bytes=0) for share in made.devices
        ]

    def test_less_work_needs_less_and_the_same_weights(self, llava: ModelInfo) -> None:
        made = planned(llava)
        for small, whole in zip(
            replay(MACHINE, llava, made, Workload(700, 1, 576)), made.devices, strict=True
        ):
            assert small.weights_bytes == whole.weights_bytes
            assert small.kv_cache_bytes <= whole.kv_cache_bytes
            assert small.total_bytes <= whole.total_bytes

    def test_another_model_or_machine_gives_nothing(self, llava: ModelInfo) -> None:
        made, work = planned(llava), Workload(700, 1, 576)
        assert replay(replace(MACHINE, gpus=()), llava, made, work) == ()
        assert replay(MACHINE, replace(llava, modules=llava.modules[:-1]), made, work) == ()


REPORT = LoadReport(
    engine="transformers",
    precision="nf4",
    device_map=(),
    dtype="fp16",
    quantized=0,
    offload_dir=None,
    seconds=12.5,
    peaks=(("cpu", 3 * GIB),),
    supports_images=True,
    context_tokens=2048,
)


def done(prompt: int, said: int, *, image_tokens: int = 576) -> Done:
    return Done("stop", Usage(prompt, image_tokens, said), Timings(0.5, 20.0, 2.0), tuple(range(said)))


def question(pictures: int = 1) -> tuple[Message, ...]:
    images = tuple(ImagePart(Path(f"{number}.png"), str(number), 8, 8) for number in range(pictures))
    return (Message(Role.USER, (*images, TextPart("what?"))),)


class Desk:
    """A comparison with a real table, a described machine and answers written by hand."""

    def __init__(self, folder: Path, model: ModelInfo, plan: Plan) -> None:
        self.store = Measurements(folder / "measurements.sqlite3")
        self.model = model
        self.plan = plan
        self.now = 0.0
        self.machine = MACHINE
        self.ours = Credit()
        self.comparison = Comparison(
            self.store, Sources(self.inspect, self.hardware, lambda: self.ours), self.clock
        )

    def inspect(self, request: PlanRequest) -> ModelInfo:
        if request.model != "llava":
            raise ModelNotFound(path=request.model, detail="Nobody knows it.")
        return self.model

    def hardware(self) -> HardwareSnapshot:
        return self.machine

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def answer(
        self, held: int, finished: Done, *, session: str = "tab", pid: int = PID
    ) -> Measurement | None:
        peaks = (DevicePeak("cpu", 10 * MIB, GIB), DevicePeak("cuda:0", 4 * GIB, held, held, held))
        return self.comparison.answered(Answer(session, question(), finished, self.plan, REPORT, pid, peaks))


@pytest.fixture
def desk(tmp_path: Path, llava: ModelInfo) -> Desk:
    return Desk(tmp_path, llava, planned(llava))


class TestRows:
    def test_an_answer_makes_a_row_for_each_device(self, desk: Desk, llava: ModelInfo) -> None:
        measurement = desk.answer(5 * GIB, done(650, 50))
        assert measurement is not None
        assert (measurement.context_tokens, measurement.images) == (700, 1)
        assert (measurement.load_s, measurement.load_peak_ram_bytes) == (12.5, 3 * GIB)
        rows = {row.device: row for row in desk.store.rows()}
        assert {device: row.kind for device, row in rows.items()} == {"cpu": "cpu+cuda", "cuda:0": CARD}
        shares = {share.device: share for share in replay(MACHINE, llava, desk.plan, Workload(700, 1, 576))}
        gpu = rows["cuda:0"]
        assert gpu.predicted == shares["cuda:0"]
        exact = gpu.predicted.weights_bytes + gpu.predicted.kv_cache_bytes
        assert gpu.measured_bytes == 5 * GIB - exact
        assert gpu.expected_bytes == gpu.predicted.activation_bytes + gpu.predicted.staging_bytes
        assert json.loads(gpu.facts)["device"]["source"] == "allocator"

    def test_later_answers_count_when_they_held_more(self, desk: Desk) -> None:
        assert desk.answer(5 * GIB, done(650, 50)) is not None
        assert desk.answer(5 * GIB, done(800, 50)) is None
        higher = desk.answer(6 * GIB, done(900, 50))
        assert higher is not None
        assert higher.context_tokens == 950
        assert [row.context_tokens for row in desk.store.rows()] == [950, 950]

    def test_the_caches_of_all_conversations_count_up_to_the_plans_context(self, desk: Desk) -> None:
        desk.answer(5 * GIB, done(650, 50), session="one")
        both = desk.answer(6 * GIB, done(600, 50), session="two")
        assert both is not None
        assert both.context_tokens == 1350
        full = desk.answer(7 * GIB, done(1500, 50), session="three")
        assert full is not None
        assert full.context_tokens == desk.plan.context_tokens

    def test_another_load_is_another_run(self, desk: Desk) -> None:
        desk.answer(5 * GIB, done(650, 50))
        assert desk.answer(5 * GIB, done(650, 50), pid=PID + 1) is not None
        assert len({row.run for row in desk.store.rows()}) == 2

    def test_a_model_that_was_moved_is_another_run(self, desk: Desk, llava: ModelInfo) -> None:
        desk.answer(5 * GIB, done(650, 50))
        desk.plan = planned(llava, gpu_layers=10)
        assert desk.answer(3 * GIB, done(650, 50)) is not None
        assert len({row.run for row in desk.store.rows()}) == 2

    @pytest.mark.parametrize("finished", [done(650, 0)], ids=["no word was said"])
    def test_nothing_is_kept_of_an_answer_that_was_none(self, desk: Desk, finished: Done) -> None:
        assert desk.answer(5 * GIB, finished) is None
        assert desk.store.rows() == ()

    def test_a_model_that_has_gone_spoils_no_answer(self, desk: Desk) -> None:
        desk.plan = replace(desk.plan, request=PlanRequest("gone"))
        assert desk.answer(5 * GIB, done(650, 50)) is None
        assert desk.comparison.last(desk.plan) is None

    def test_what_was_measured_for_a_plan_is_found_again(self, desk: Desk) -> None:
        measurement = desk.answer(5 * GIB, done(650, 50))
        assert desk.comparison.last(desk.plan) == (1.0, measurement)
        assert desk.comparison.last(replace(desk.plan, context_tokens=4096)) is None


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "devices"),
        [
            (OutOfGpuMemory(device="cuda:0", stage="x", needed_bytes=1, free_bytes=1), ["cuda:0"]),
            (OutOfGpuMemory(device="The GPU", stage="x", needed_bytes=1, free_bytes=1), ["cuda:0"]),
            (OutOfRam(stage="x", needed_bytes=1, free_bytes=1), ["cpu"]),
            (RamKilled(stage="x", needed_bytes=1, free_bytes=1), ["cpu"]),
            (Cancelled(), []),
        ],
        ids=["a GPU by name", "the only GPU", "RAM", "the system ended it", "something else"],
    )
    def test_running_out_is_a_row_of_the_device(
        self, desk: Desk, error: SnugError, devices: list[str]
    ) -> None:
        desk.comparison.failed(desk.plan, error)
        rows = desk.store.rows()
        assert [row.device for row in rows] == devices
        for row in rows:
            exact = row.predicted.weights_bytes + row.predicted.kv_cache_bytes
            assert row.failed
            assert row.measured_bytes >= row.predicted.budget_bytes - exact

    def test_the_next_plan_counts_higher(self, desk: Desk, llava: ModelInfo) -> None:
        assert desk.comparison.correction.factors == ()
        error = OutOfGpuMemory(device="cuda:0", stage="answering", needed_bytes=1, free_bytes=1)
        desk.comparison.failed(desk.plan, error)
        taught = make_plan(MACHINE, llava, desk.plan.request, correction=desk.comparison.correction)
        assert "reason.corrected_up" in [reason.code for reason in taught.reasons]
        before, after = desk.plan.devices[0], taught.devices[0]
        assert after.overhead_bytes >= before.overhead_bytes * 1.09

    def test_what_other_programs_took_meanwhile_teaches_nothing(self, desk: Desk) -> None:
        error = OutOfGpuMemory(device="cuda:0", stage="answering", needed_bytes=1, free_bytes=1)
        taken = replace(MACHINE.gpus[0], free_bytes=3 * GIB)
        desk.machine = replace(MACHINE, gpus=(taken,))
        desk.comparison.failed(desk.plan, error)
        assert desk.store.rows() == ()
        # The same figures, but it is our own model that holds the rest.
        desk.ours = Credit(gpu_bytes=((0, 9 * GIB),))
        desk.comparison.failed(desk.plan, error)
        assert [row.device for row in desk.store.rows()] == ["cuda:0"]

    def test_a_failure_is_no_measurement_to_show(self, desk: Desk) -> None:
        desk.comparison.failed(desk.plan, OutOfRam(stage="x", needed_bytes=1, free_bytes=1))
        assert desk.comparison.last(desk.plan) is None
