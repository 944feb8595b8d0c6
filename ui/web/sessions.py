"""What each browser tab has: its conversation, its draft's pictures and its language; nothing on disk."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field

from backends.errors import SnugError
from backends.hardware.types import HardwareSnapshot
from backends.messages import ImagePart
from backends.placement.needs import Needs
from backends.placement.types import Overrides, Plan, PlanRequest
from backends.text import Text
from ui.i18n import Language
from ui.web.chat_flow import Conversation, settled
from ui.web.climb import Climb

# Conversations of closed tabs that a reload can still get back.
_REMEMBERED_TABS = 50


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another machine that the tab plans for; `before` are the settings to come back to.

    `key` names a typical machine, and is "own" for any other.
    """

    key: str
    name: Text | str
    hardware: HardwareSnapshot
    before: Overrides


# Values written to one field whose change events are waited for: a browser that is slower skips some.
_ECHOES = 4


@dataclass(slots=True)
class Session:
    """One tab. `ident` names it to the service; handlers of one tab may run side by side.

    `stopping` is set when the person wants the running answer to end, `clearing` when the conversation is to
    go with it; `draft_images` are the pictures in the message box, by the path of the upload, `refused` the
    uploads that were last found unreadable; `shown` the last HTML by panel, to send only changes; `asked_at`
    when the newest answer began. `notes` say what became of settings by hand, `problem` what is wrong with
    the one just made; `drafts` are device maps being written, by model, and `draft_plan` what the planner
    makes of the current one; `limited` is the GPU whose memory limit is shown; `elsewhere` is set while plans
    are for another machine. `asking_to_clear` is set while the person is asked whether converted files shall
    go, `came_free` the bytes that the last such removal freed. `climb` is the way down when memory runs out.
    `written` is what we wrote into fields whose change events are still to come, by panel. Whoever decides
    about the plan, or acts on what the tab shows, holds `deciding`: of two clicks at once, the second sees
    what the first has done. A load is begun under it and an answer asked for; neither goes on under it.
    """

    ident: str
    tab: str = ""
    language: Language = "en"
    request: PlanRequest | None = None
    turns: Conversation = ()
    answering: bool = False
    clearing: bool = False
    stopping: threading.Event = field(default_factory=threading.Event)
    draft_images: dict[str, ImagePart] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    notes: tuple[Text, ...] = ()
    problem: SnugError | None = None
    drafts: dict[str, str] = field(default_factory=dict)
    draft_plan: Plan | SnugError | None = None
    limited: int | None = None
    elsewhere: Elsewhere | None = None
    description: SnugError | None = None
    needs: tuple[PlanRequest, Needs | SnugError] | None = None
    asking_to_clear: bool = False
    came_free: int | None = None
    climb: Climb = field(default_factory=Climb)
    error: SnugError | None = None
    dismissed: SnugError | None = None
    shown: dict[str, object] = field(default_factory=dict)
    written: dict[str, list[object]] = field(default_factory=dict)
    ticks: int = 0
    asked_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    deciding: threading.RLock = field(default_factory=threading.RLock)

    def ask(self, turns: Conversation) -> None:
        """Take a conversation whose last question waits; a stop from here on is meant for its answer."""
        self.stopping.clear()
        self.turns = turns

    def begin(self) -> bool:
        """Claim the tab's one running answer; False when there is one already."""
        with self.lock:
            if self.answering:
                return False
            self.answering, self.asked_at = True, time.monotonic()
            return True

    def end(self) -> None:
        """The running answer has ended."""
        with self.lock:
            self.answering = False
            if self.clearing:
                self.turns, self.clearing = (), False

    def clear(self) -> bool:
        """Begin a new conversation; True when that waits for the running answer, which must be stopped."""
        with self.lock:
            if self.answering:
                self.clearing = True
            else:
                self.turns = ()
            return self.answering

    def forget_shown(self) -> None:
        """Send everything again next time: two answers of the server may have overtaken one another.

        The plan's details stay as they are, so that what the person has opened stays open; so do the
        settings by hand, so that nothing changes under a person's fingers.
        """
        self.shown = {
            panel: value for panel, value in self.shown.items() if panel.startswith(("details", "custom."))
        }

    def write(self, panel: str, value: object) -> None:
        """Note that `value` goes to a field, which will tell us of its change as if a person had made it."""
        self.written[panel] = [*self.written.get(panel, ()), value][-_ECHOES:]

    def is_echo(self, panel: str, value: object) -> bool:
        """Whether the change of a field to `value` is ours, or none; each thing written comes back once.

        A slow browser tells of it late: by then the person may have written more, or we may have.
        """
        written = self.written.get(panel, [])
        if value in written:
            # What was written before it, and was skipped, does not come any more.
            self.written[panel] = written[written.index(value) + 1 :]
            return True
        return value == self.shown.get(panel)

    def changed(self, panel: str, value: object) -> bool:
        """Note what `panel` shows; False when it shows that already."""
        if panel in self.shown and self.shown[panel] == value:
            return False
        self.shown[panel] = value
        return True


class Sessions:
    """All open tabs by Gradio's session hash, and the conversations of tabs that were just closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}
        self._closed: OrderedDict[str, Session] = OrderedDict()

    def of(self, session_hash: str | None) -> Session:
        """The session of a tab; a new one for a tab not seen before."""
        key = session_hash or "nobody"
        with self._lock:
            if key not in self._open:
                self._open[key] = Session(f"tab-{uuid.uuid4().hex[:12]}")
            return self._open[key]

    def adopt(self, session: Session, tab: str, source: str | None = None) -> None:
        """Give a reloaded page its conversation back.

        `tab` is an id that the browser keeps for the tab's life; a duplicated tab names the one that it was
        made from as its `source` and gets a copy. A reloaded page may arrive before it is seen to leave:
        who asked last has the newest conversation.
        """
        source = source or tab
        with self._lock:
            known = [other for other in self._open.values() if other.tab == source and other is not session]
            closed = self._closed.pop(tab, None) if source == tab else self._closed.get(source)
            known = [*reversed(known), *([closed] if closed is not None else [])]
            session.tab = tab
            if known and not session.turns:
                previous = max(known, key=lambda other: other.asked_at)
                session.turns, session.asked_at = settled(previous.turns), previous.asked_at

    def close(self, session_hash: str | None) -> Session | None:
        """Forget a tab that was closed, but for its conversation; returns its session."""
        with self._lock:
            session = self._open.pop(session_hash or "nobody", None)
            if session is not None and session.tab and session.turns:
                self._closed[session.tab] = session
                while len(self._closed) > _REMEMBERED_TABS:
                    self._closed.popitem(last=False)
            return session

    def all(self) -> tuple[Session, ...]:
        """Every open tab."""
        with self._lock:
            return tuple(self._open.values())
