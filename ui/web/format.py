"""Pure: hardware, plans, states and errors -> the HTML that the page shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backends.conversion.types import Conversion
from backends.errors import SnugError
from backends.hardware.types import Gpu, HardwareSnapshot
from backends.messages import Done
from backends.placement.types import DeviceShare, Plan
from backends.reports import DeviceMeasured, Measurement, UnloadReport
from backends.text import Text, human_bytes, human_rate
from ui.i18n import Translator
from ui.naming import engine_name, exact_name, precision_name
from ui.web.html import Segment, badge, bar, esc, section

# The components of a device's memory: field of DeviceShare, key of its name, CSS class of its colour.
COMPONENTS = (
    ("weights_bytes", "component.weights", "c-weights"),
    ("kv_cache_bytes", "component.kv_cache", "c-kv"),
    ("activation_bytes", "component.activations", "c-activations"),
    ("staging_bytes", "component.staging", "c-staging"),
    ("overhead_bytes", "component.overhead", "c-overhead"),
)
# Reasons that stand in the card itself.
_BEFORE_LOADING = frozenset({"gguf.no_mmproj"})
# CPU features that decide how fast a model runs; the others only make the line long.
_TELLING_FEATURES = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd", "neon")


def hardware_card(snapshot: HardwareSnapshot, say: Translator) -> str:
    """The machine at a glance: a line for each GPU, RAM, CPU, disk, and notes on what is absent."""
    lines = [_gpu_line(gpu, say) for gpu in snapshot.gpus]
    ram = snapshot.ram
    used = ram.total_bytes - ram.available_bytes
    lines.append(_meter(say("hardware.ram"), used, ram.total_bytes, "", say))
    features = [name for name in _TELLING_FEATURES if name in snapshot.cpu.features][:1]
    cpu = say(
        "hardware.cpu",
        cores=snapshot.cpu.cores,
        features=" ".join(name.upper().replace("_", "-") for name in features),
    )
    disk = say("hardware.disk", free=human_bytes(snapshot.disk.free_bytes))
    lines.append(
        f'<p class="sn-line"><span title="{esc(snapshot.cpu.name)}">{esc(cpu.strip())}</span>'
        f'<span title="{esc(snapshot.disk.path)}">{esc(disk)}</span></p>'
    )
    lines += [f'<p class="sn-note">{esc(say.text(note))}</p>' for note in snapshot.notes]
    return section(say("ui.machine"), "".join(lines))


def _gpu_line(gpu: Gpu, say: Translator) -> str:
    figures = []
    if gpu.utilization is not None:
        figures.append(f"{gpu.utilization} %")
    if gpu.temperature_c is not None:
        figures.append(f"{gpu.temperature_c} °C")
    name = short_gpu(gpu.name)
    used = gpu.total_bytes - gpu.free_bytes
    line = _meter(name, used, gpu.total_bytes, " · ".join(figures), say, title=gpu.name)
    others = [process for process in gpu.processes if not process.ours]
    if others:
        names = ", ".join(
            f"{process.name} {human_bytes(process.bytes)}" if process.bytes else process.name
            for process in sorted(others, key=lambda process: -process.bytes)[:3]
        )
        line += f'<p class="sn-note">{esc(say("hardware.used_by", names=names))}</p>'
    return line


def short_gpu(gpu: str) -> str:
    """The part of a GPU's name that tells it from others."""
    return gpu.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _meter(name: str, used: int, total: int, figures: str, say: Translator, *, title: str = "") -> str:
    amount = f"{_gigabytes(used)} / {human_bytes(total)}"
    description = say("hardware.meter", name=title or name, used=human_bytes(used), total=human_bytes(total))
    level = "c-hot" if used > 0.92 * total else "c-used"
    return (
        f'<div class="sn-meter"><span class="sn-name" title="{esc(title or name)}">{esc(name)}</span>'
        f'<span class="sn-figures">{esc(figures)}</span><span class="sn-amount">{esc(amount)}</span>'
        f"{bar([Segment(level, amount, used)], total, description)}</div>"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What the loaded plan really did; None is not known yet. `moved` says that `load_s` is of a move.

    `notes` are sentences on what the engine did to the model's files.
    """

    load_s: float | None = None
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    memory: Measurement | None = None
    moved: bool = False
    notes: tuple[Text, ...] = ()


def plan_card(plan: Plan, say: Translator, measured: Measured | None = None) -> str:
    """What will run where, and how fast; what was `measured` stands under what was expected."""
    where = _where(plan, say)
    headline = (
        f'<p class="sn-headline">{badge("verdict-" + plan.verdict, say("verdict." + plan.verdict))}'
        f"<span>{esc(where)}</span></p>"
    )
    real = measured or Measured()
    speed = "" if plan.verdict == "no" else _speed(plan, real, say)
    devices = "".join(_device(share, real.memory, say) for share in plan.devices)
    legend = _legend(plan.devices, say, measured=real.memory is not None)
    return section(
        say("ui.plan"),
        headline + devices + legend + speed + made_of(plan, say) + _remarks(plan, real.notes, say),
    )


def plan_details(plan: Plan, say: Translator) -> str:
    """Why the plan is as it is, and what else was considered, each behind one click."""
    return _reasons(plan, say) + _alternatives(plan, say)


def _where(plan: Plan, say: Translator) -> str:
    if plan.gpu_layers >= plan.layers:
        layers = say("plan.all_gpu", layers=plan.layers)
    elif plan.gpu_layers == 0:
        layers = say("plan.all_cpu", layers=plan.layers)
    else:
        layers = say("plan.split", gpu=plan.gpu_layers, other=plan.layers - plan.gpu_layers)
    return f"{engine_name(plan.engine)} · {precision_name(plan.precision, say)} · {layers}"


def made_of(plan: Plan, say: Translator) -> str:
    """What the checkpoint leans on: folders beside its own, and how a conversation is written for it."""
    found, lines = plan.companions, []
    known = {plan.model_path}
    for field in ("base", "vision_tower", "tokenizer"):
        folder = getattr(found, field)
        if folder is not None and str(folder) not in known:
            known.add(str(folder))
            lines.append((say(f"custom.{field}"), str(folder)))
    if found.template:
        by_hand = plan.request.overrides.template is not None
        by_whom = say("plan.by_hand" if by_hand else "plan.by_snug", name=found.template)
        lines.append((say("custom.template"), by_whom))
    listed = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in lines)
    return f'<dl class="sn-made-of">{listed}</dl>' if listed else ""


def _remarks(plan: Plan, notes: Iterable[Text], say: Translator) -> str:
    """What a person should know without looking for reasons, before the load and after it."""
    conversion = plan.conversion
    told = [say.text(reason) for reason in plan.reasons if reason.code in _BEFORE_LOADING]
    if conversion is not None and plan.verdict != "no":
        told.append(_conversion(conversion, plan.reasons, say))
    told += [say.text(note) for note in notes]
    return "".join(f'<p class="sn-note">{esc(sentence)}</p>' for sentence in told)


def _conversion(conversion: Conversion, reasons: Iterable[Text], say: Translator) -> str:
    """That it is done, or what it takes: the planner's reasons know how long."""
    if conversion.ready:
        return say("plan.converted", size=conversion.nbytes)
    told = ("converted.once", "converted.compare_once")
    figures = next((dict(reason.values) for reason in reasons if reason.code in told), {})
    if not conversion.nbytes and "seconds" in figures:
        return say("plan.compares_in", seconds=figures["seconds"])
    if "seconds" not in figures:
        return say("plan.converts_once", size=conversion.nbytes)
    return say("plan.converts_in", size=conversion.nbytes, seconds=figures["seconds"])


def _speed(plan: Plan, measured: Measured, say: Translator) -> str:
    expected = plan.expected

    def seconds(key: str, planned: float, real: float | None, was: str = "plan.measured") -> str:
        shown = "" if real is None else say(was, value=say("unit.about_seconds", seconds=real))
        return _figure(say(key), say("unit.about_seconds", seconds=planned), shown)

    rate = measured.tokens_per_s
    told = "" if rate is None else say("plan.measured", value=_rate(rate, say))
    was = "plan.moved" if measured.moved else "plan.measured"
    return (
        '<dl class="sn-speed">'
        + seconds("plan.first_token", expected.first_token_s, measured.first_token_s)
        + _figure(say("plan.tokens_per_s"), _rate(expected.tokens_per_s, say), told)
        + seconds("plan.load", expected.load_s, measured.load_s, was)
        + "</dl>"
    )


def _figure(name: str, planned: str, real: str) -> str:
    below = f'<dd class="sn-measured">{esc(real)}</dd>' if real else ""
    return f"<div><dt>{esc(name)}</dt><dd>{esc(planned)}</dd>{below}</div>"


def _rate(tokens_per_s: float, say: Translator) -> str:
    rate = f"{tokens_per_s:.0f}" if tokens_per_s >= 10 else human_rate(tokens_per_s)
    return say("unit.about_rate", rate=rate)


def _device(share: DeviceShare, memory: Measurement | None, say: Translator) -> str:
    segments = [Segment(css, f"{say(key)}: {human_bytes(getattr(share, field))}", getattr(share, field))
                for field, key, css in COMPONENTS]  # fmt: skip
    free = max(share.budget_bytes - share.total_bytes, 0)
    name = say("hardware.ram") if share.device == "cpu" else short_gpu(share.name) or share.device
    over = " sn-over" if share.total_bytes > share.budget_bytes else ""
    amount = say("plan.of", used=human_bytes(share.total_bytes), budget=human_bytes(share.budget_bytes))
    described = [segment.name for segment in segments if segment.size > 0]
    described.append(f"{say('component.free')}: {human_bytes(free)}")
    description = f"{name}: {', '.join(described)}"
    return (
        f'<div class="sn-meter{over}"><span class="sn-name" title="{esc(share.device)}">{esc(name)}</span>'
        f'<span class="sn-amount">{esc(amount)}</span>'
        f"{bar(segments, share.budget_bytes, description, limit=share.budget_bytes)}"
        f"{_held(share, name, memory, say)}</div>"
    )


def _held(share: DeviceShare, name: str, memory: Measurement | None, say: Translator) -> str:
    """The measured bar under the predicted one: drawn to the same scale, for the tokens that were there."""
    one = next((one for one in memory.devices if one.device == share.device), None) if memory else None
    if memory is None or one is None:
        return ""
    rest = max(one.held_bytes - one.weights_bytes, 0)
    figures = {"held": human_bytes(one.held_bytes), "expected": human_bytes(one.expected_bytes)}
    key = "plan.held_torch" if one.source == "allocator" else "plan.held"
    line = say(key, tokens=memory.context_tokens, **figures)
    parts = [
        Segment(
            "c-weights", f"{say('component.weights')}: {human_bytes(one.weights_bytes)}", one.weights_bytes
        ),
        Segment("c-rest", f"{say('component.rest')}: {human_bytes(rest)}", rest),
    ]
    description = f"{name}: {line}; {', '.join(part.name for part in parts)}"
    drawn = bar(parts, _scale(share, one), description, limit=share.budget_bytes)
    return f'<div class="sn-held"><span>{esc(line)}</span>{drawn}</div>'


def _scale(share: DeviceShare, one: DeviceMeasured) -> int:
    """The predicted bar's length, so that both compare; more where more was held."""
    return max(share.budget_bytes, share.total_bytes, one.held_bytes)


def _legend(devices: Iterable[DeviceShare], say: Translator, *, measured: bool) -> str:
    shares = tuple(devices)
    shown = [
        f'<li><i class="{css}" aria-hidden="true"></i>{esc(say(key))}</li>'
        for field, key, css in COMPONENTS
        if any(getattr(share, field) for share in shares)
    ]
    if measured:
        shown.append(f'<li><i class="c-rest" aria-hidden="true"></i>{esc(say("component.rest"))}</li>')
    free = f'<li><i class="c-free" aria-hidden="true"></i>{esc(say("component.free"))}</li>'
    return f'<ul class="sn-legend">{"".join(shown)}{free}</ul>' if shown else ""


def _reasons(plan: Plan, say: Translator) -> str:
    items = "".join(f"<li>{esc(say.text(reason))}</li>" for reason in plan.reasons)
    return f'<details class="sn-more"><summary>{esc(say("plan.why"))}</summary><ul>{items}</ul></details>'


def _alternatives(plan: Plan, say: Translator) -> str:
    if not plan.alternatives:
        return ""
    items = "".join(
        f"<li><b>{esc(engine_name(other.engine))} · {esc(exact_name(other.engine, other.precision))}</b> "
        f"({esc(say('verdict.' + other.verdict))}, {esc(_rate(other.tokens_per_s, say))}): "
        f"{esc(say.text(other.why_not))}</li>"
        for other in plan.alternatives
    )
    return (
        f'<details class="sn-more"><summary>{esc(say("plan.considered", count=len(plan.alternatives)))}'
        f"</summary><ul>{items}</ul></details>"
    )


def error_card(error: SnugError, say: Translator) -> str:
    """What happened, why, and what to do: calm, and read aloud at once."""
    return notice(say.text(error.what_text), say.text(error.why_text), say.text(error.remedy_text))


def notice(title: str, *sentences: str) -> str:
    """A card above the message box."""
    body = "".join(f"<p>{esc(sentence)}</p>" for sentence in sentences if sentence.strip())
    return f'<div class="sn-notice" role="alert"><strong>{esc(title)}</strong>{body}</div>'


def unloaded_text(report: UnloadReport, say: Translator) -> str:
    """What an unload gave back, and how long it took until the system saw it."""
    given_back = report.freed_ram_bytes + report.freed_gpu_bytes
    return say("model.unloaded", size=human_bytes(given_back), seconds=report.seconds)


def stats_line(done: Done, say: Translator) -> str:
    """`0.4 s to first token · 38 tokens/s · 576 image tokens` as plain text."""
    parts = [say("stats.first", seconds=done.timings.first_token_s)] if done.token_ids else []
    if len(done.token_ids) > 1 and done.timings.tokens_per_s > 0:
        rate = done.timings.tokens_per_s
        parts.append(say("stats.rate", rate=f"{rate:.0f}" if rate >= 10 else human_rate(rate)))
    if done.token_ids and done.usage.image_tokens:
        parts.append(say("stats.image_tokens", count=done.usage.image_tokens))
    if done.finish_reason != "stop":
        parts.append(say(f"stats.{done.finish_reason}"))
    return " · ".join(parts)
