"""What a plan's devices hold for other tokens and pictures than it was made for. Pure."""

from __future__ import annotations

from backends.hardware.types import HardwareSnapshot
from backends.models.types import ModelInfo
from backends.placement import case, gguf
from backends.placement.case import Case, Layout
from backends.placement.estimate import Workload
from backends.placement.evaluate import evaluate
from backends.placement.precision import Precision
from backends.placement.types import Credit, DeviceShare, Plan
from backends.presets import policy


def replay(
    hardware: HardwareSnapshot, model: ModelInfo, plan: Plan, work: Workload
) -> tuple[DeviceShare, ...]:
    """The formula's shares for `work`, without any correction; empty when `model` is not the plan's.

    Of a plan that converts, `model` is what its files hold.
    """
    places = dict(plan.device_map)
    if places.keys() != {module.name for module in model.modules}:
        return ()
    if (plan.engine == case.GGUF_ENGINE) != (model.format == "gguf"):
        return ()  # it can no longer be told what the files held
    gpus = tuple(gpu for gpu in hardware.gpus if case.cuda(gpu) in places.values())
    if len(gpus) < len({device for device in places.values() if device.startswith("cuda:")}):
        return ()  # a GPU has vanished since
    asked = Case(
        hardware=hardware,
        model=model,
        request=plan.request,
        policy=policy(plan.request.preset),
        credit=Credit(),
        gpus=gpus,
        budgets=case.budgets(hardware, gpus, Credit(), {}),
        commit=None,
        work=work,
        offload_dir=plan.offload_dir or "",
    )
    precision = Precision(plan.precision, plan.compute_dtype)
    devices = tuple(places[module.name] for module in model.modules)
    judge = gguf.judge if model.format == "gguf" else evaluate
    return judge(asked, Layout(precision, devices, plan.cpu_layers_mode)).devices
