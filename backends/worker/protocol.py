"""What parent and child say to each other over the worker's pipe, on one page.

    parent                        child
      |  <------------------ Ready  |    the process runs and listens; libraries are still being imported
      |  Load ------------------->  |
      |  <------- LoadProgress ...  |
      |  <------ Loaded | Replace | Failed
      |  Move ------------------->  |    the loaded model takes other places, its files are not read again
      |  <------- LoadProgress ...  |
      |  <--------- Loaded | Failed |    Failed says whether the model stands where it was, or is gone
      |  Chat ------------------->  |
      |  <---------- ChatEvents ... |    the last event of the last one is Done
      |  <------------------ Memory |    before that one: what the devices have held at most
      |  Prime ------------------>  |
      |  <--------------- PrimeDone |
      |  Cancel ----------------->  |    any time; the task it names ends soon, with its usual last reply
      |  Close ------------------>  |    the process ends; everything still running is cancelled first

Tasks (Load, Move, Chat, Prime) carry a number, run one after the other in the order they were sent, and each
ends with exactly one last reply: Loaded, Replace, ChatEvents with Done, PrimeDone or Failed. There is no
heartbeat: a thread that beats while the engine hangs in a driver call proves nothing. A task that does
not end in time after Cancel does.
"""

from __future__ import annotations

from dataclasses import dataclass

from backends.errors import SnugError
from backends.messages import Event, Message, Progress, SamplingParams
from backends.placement.types import Plan
from backends.reports import DevicePeak, LoadReport


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model as planned."""

    task: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Move:
    """Rearrange the loaded model as planned, in memory."""

    task: int
    plan: Plan


@dataclass(frozen=True, slots=True)
class Chat:
    """Answer the last message; `conversation` names the cache to prefer."""

    task: int
    conversation: str
    messages: tuple[Message, ...]
    sampling: SamplingParams


@dataclass(frozen=True, slots=True)
class Prime:
    """Encode and prefill an unfinished conversation in the background."""

    task: int
    conversation: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a task that runs or waits; one that has ended already is ignored."""

    task: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the process."""


Command = Load | Move | Chat | Prime
Downward = Command | Cancel | Close


@dataclass(frozen=True, slots=True)
class Ready:
    """The child listens."""

    pid: int


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load or a move is."""

    task: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is in memory, as described by `report`."""

    task: int
    report: LoadReport


@dataclass(frozen=True, slots=True)
class Replace:
    """The plan needs a fresh process: this one's driver already sees other GPUs."""

    task: int


@dataclass(frozen=True, slots=True)
class ChatEvents:
    """The next events of an answer; several when the answer is faster than a screen."""

    task: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """What each device has held at most since the model was ready."""

    task: int
    peaks: tuple[DevicePeak, ...]


@dataclass(frozen=True, slots=True)
class PrimeDone:
    """The prefix is cached, or the task was cancelled."""

    task: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised; the process lives on. `lost`: a move failed, and no model is left."""

    task: int
    error: SnugError
    lost: bool = False


TaskReply = LoadProgress | Loaded | Replace | ChatEvents | Memory | PrimeDone | Failed
Upward = Ready | TaskReply
