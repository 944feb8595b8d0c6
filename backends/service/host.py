"""The one model in memory: loads it, swaps it, ends it, and knows when it ended by itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from backends.errors import (
    Cancelled,
    FolderReadOnly,
    GpuGone,
    InternalError,
    NotLoaded,
    SnugError,
    WorkerCrashed,
    WorkerHung,
)
from backends.messages import Progress
from backends.placement.moving import why_reload
from backends.placement.types import Plan
from backends.reports import LoadReport, Measurement, UnloadReport
from backends.service.loading import LoadJob, does_not_fit, remove_offloaded
from backends.service.spare import Spare
from backends.service.state import ModelState, Standing
from backends.service.surroundings import Surroundings
from backends.text import Text
from backends.worker.client import WorkerClient
from backends.worker.memory import release
from backends.worker.task import TICK_S, Task

LOG = logging.getLogger("snug.service")

DEFAULT_ENGINE = "transformers"

# What a load would run into as well: the model that is there had better stay.
_HOPELESS = (FolderReadOnly, GpuGone)
_NOTHING_LOADED = Text("move.nothing_loaded", "No model is in memory.")
_FILES_CHANGED = Text("move.files_changed", "Its files have changed since they were read.")


class ModelHost:
    """Owns the worker processes. `changed` guards the state and is notified of every change of it.

    `on_change` is called, with the lock held, after each change of status; `on_loaded`, without it, when a
    model was loaded from its files, `on_failure` when a load or an answer failed for a reason of its own.
    `obstacle` says why the model of one plan can't be moved to another; `files` differs once a file of a
    plan's model has changed. The lock is never held while a process is started or ended.
    """

    def __init__(self, around: Surroundings, *, engine: str | None, preload: bool) -> None:
        self.changed = threading.Condition()
        self.on_change: Callable[[], None] = lambda: None
        self.on_loaded: Callable[[Plan], object] = lambda _plan: None
        self.on_failure: Callable[[Plan, SnugError], None] = lambda _plan, _error: None
        self.obstacle: Callable[[Plan, Plan], Text | None] = why_reload
        self.files: Callable[[Plan], object] = lambda _plan: ()
        self._around = around
        self._engine = engine
        self._state = ModelState()
        self._worker: WorkerClient | None = None
        self._worker_plan: Plan | None = None
        # Where the worker's process may have left weights on the disk.
        self._folders: set[str] = set()
        # The model that answers, or would if a move under way were called off.
        self._standing: Standing | None = None
        self._job: LoadJob | None = None
        self._last_plan: Plan | None = None
        self._threads: list[threading.Thread] = []
        self._closed = False
        # One load or unload at a time touches processes.
        self._lifecycle = threading.Lock()
        self._spare = Spare(self._spawn, self.changed, wanted=preload)
        self._spare.start(engine or DEFAULT_ENGINE)

    @property
    def state(self) -> ModelState:
        """The model's state; `busy` and `waiting` are filled in by who knows the queue."""
        with self.changed:
            return self._state

    @property
    def pids(self) -> tuple[int, ...]:
        """Our child processes: the model's, and one that waits for a model."""
        with self.changed:
            return tuple(worker.pid for worker in (self._worker, self._spare.client) if worker is not None)

    @property
    def loaded(self) -> tuple[int, Plan] | None:
        """The process that holds a model, or is loading one, and its plan."""
        with self.changed:
            if self._worker is None or self._worker_plan is None:
                return None
            return self._worker.pid, self._worker_plan

    def worker(self) -> WorkerClient | None:
        """The process that answers; None while a model is loading. Raises NotLoaded or why it ended."""
        with self.changed:
            match self._state.status:
                case "ready":
                    return self._worker
                case "loading":
                    return None
                case _:
                    raise self._state.error or NotLoaded()

    def measured(self, report: LoadReport, measurement: Measurement) -> None:
        """Publish what the model of `report` has held, unless it has gone, or to other places, meanwhile."""
        with self.changed:
            standing = self._standing
            if standing is None or standing.state.report is not report:
                return
            # Also where it is about to be moved, and may come back.
            self._standing = replace(standing, state=replace(standing.state, measured=measurement))
            if self._state.report is report:
                self._become(self._standing.state)

    def why_reload(self, plan: Plan) -> Text | None:
        """Why `plan` takes a load from the model's files; None where what is in memory is moved."""
        with self.changed:
            standing, worker = self._standing, self._worker
        if standing is None or worker is None or not worker.alive:
            return _NOTHING_LOADED
        found = self.obstacle(standing.plan, plan)
        return _FILES_CHANGED if found is None and standing.files != self.files(plan) else found

    def load(self, plan: Plan) -> Iterator[Progress]:
        """Start loading at once, in the background; a load under way gives way to this one.

        A model that is in memory is moved where that is possible, once it has finished its answer; else it is
        unloaded first. The iterator watches: it gives the progress and raises what went wrong.
        """
        if plan.verdict == "no":
            raise does_not_fit(plan)
        moving, files = self.why_reload(plan) is None, self.files(plan)
        with self.changed:
            if self._closed:
                raise NotLoaded
            if self._job is not None:
                self._job.cancel()
            job = self._job = LoadJob(plan, files, self.changed)
            self._last_plan = plan
            self._become(ModelState("loading", plan, progress=job.progress, moving=moving))
            thread = threading.Thread(target=self._run, args=(job,), name="snug-load", daemon=True)
            self._threads = [*(other for other in self._threads if other.is_alive()), thread]
            thread.start()
        return job.follow()

    def restart(self) -> Iterator[Progress]:
        """Load the last plan again. Raises NotLoaded when there is none."""
        if self._last_plan is None:
            raise NotLoaded
        return self.load(self._last_plan)

    def cancel_load(self) -> None:
        """Stop the load under way, if any."""
        with self.changed:
            if self._job is not None:
                self._job.cancel()

    def renew_spare(self) -> None:
        """Processes are started with other settings from now on: so is the one that waits."""
        self._spare.renew()

    def unload(self) -> UnloadReport:
        """Give the model's memory back; returns when the system has it."""
        self.cancel_load()
        # What is being moved need not go back first.
        early = self._end_model() if self.state.moving else None
        with self._lifecycle:
            report = self._end_model()
            report = early if early is not None and not report.seconds else report
            with self.changed:
                if self._state.status != "loading":
                    self._become(ModelState())
        return report

    def close(self) -> None:
        """End every process and wait for it."""
        with self.changed:
            self._closed = True
            worker = self._worker
        self.cancel_load()
        # Not waiting for a load that may be stuck: its process is ended under it.
        if worker is not None:
            worker.close()
        self._spare.close()
        with self._lifecycle:
            self._end_model()
            self._spare.close()  # one that was being started meanwhile
            with self.changed:
                self._become(ModelState())
        for thread in self._threads:
            thread.join()

    def _run(self, job: LoadJob) -> None:
        error: SnugError | None = None
        with self._lifecycle:
            try:
                report = self._carry_out(job)
                error = self._succeeded(job, report)
                if error is None and not report.moved:
                    self.on_loaded(job.plan)
            except SnugError as raised:
                error = raised
            except Exception as raised:
                LOG.exception("A load failed unexpectedly.")
                kind = type(raised).__name__
                error = InternalError(
                    detail=Text.of("cli.unexpected", "An unexpected {kind} stopped it.", kind=kind),
                    log=str(self._worker.log) if self._worker is not None else "",
                )
            if error is not None:
                # Whatever a stopped load ran into on its way out is of no interest.
                error = Cancelled() if job.cancelled else error
                if not job.moving:  # both places at once say nothing of the plan
                    self.on_failure(job.plan, error)
                self._failed(job, error)
        job.end(error)

    def _carry_out(self, job: LoadJob) -> LoadReport:
        """Move the model to the job's plan; else unload it and load, in a warm process when there is one."""
        if job.cancelled:
            raise Cancelled
        if (moved := self._move(job)) is not None:
            return moved
        with self.changed:
            if job.cancelled:
                raise Cancelled
            if self._job is job and self._state.moving:
                job.progress = Progress("start", 0, 0)
                self._become(
                    replace(self._state, moving=False, progress=job.progress, left_s=None, lasted_s=None)
                )
        engine = self._engine or job.plan.engine
        # Started before the old one ends: libraries are imported while its memory comes back.
        worker = self._spare.take(engine) or self._spawn(engine)
        self._end_model()
        task = self._hand_over(job, worker)
        if task.replace:
            self._end_model()
            task = self._hand_over(job, self._spawn(engine, job.plan))
        if task.report is None:
            raise InternalError(
                detail=Text("worker.refused", "The model's process refused the plan."), log=str(worker.log)
            )
        return task.report

    def _hand_over(self, job: LoadJob, worker: WorkerClient) -> Task:
        """Let `worker` load the job's plan, and publish its progress."""
        with self.changed:
            self._worker, self._worker_plan = worker, job.plan
            self._folders = {job.plan.offload_dir} if job.plan.offload_dir else set()
        return self._watch(job, worker, worker.load(job.plan))

    def _move(self, job: LoadJob) -> LoadReport | None:
        """Move what is in memory to the job's plan; None where it has to be loaded from its files.

        A move that fails for want of room is followed by a load, which needs less: the old goes first.
        """
        reason = self.why_reload(job.plan)
        with self.changed:
            worker = self._worker
            if worker is None or reason is not None:
                LOG.info("The model is loaded from its files: %s", reason or _NOTHING_LOADED)
                return None
            job.moving = True
            if job.plan.offload_dir:
                self._folders.add(job.plan.offload_dir)
        self._await_answers(job, worker)
        task = worker.move(job.plan)
        try:
            return self._watch(job, worker, task).report
        except SnugError as error:
            with self.changed:
                if task.lost:
                    self._standing = None
                if job.cancelled or not worker.alive or (isinstance(error, _HOPELESS) and not task.lost):
                    raise
                job.moving = False
            LOG.info("The model could not be moved and is loaded from its files: %s", error)
            return None

    def _await_answers(self, job: LoadJob, worker: WorkerClient) -> None:
        """Let the answer under way end; no other begins meanwhile, because the status is `loading`."""
        with self.changed:
            if worker.busy:
                self._tell(job, worker, Progress("wait", 0, 0))
            while worker.busy and worker.alive and not job.cancelled:
                self.changed.wait(TICK_S)
            if job.cancelled:
                raise Cancelled

    def _watch(self, job: LoadJob, worker: WorkerClient, task: Task) -> Task:
        """Follow a load or a move to its end."""
        job.runs_as(task)
        for event in task:
            if isinstance(event, Progress):
                with self.changed:
                    self._tell(job, worker, event)
        return task

    def _tell(self, job: LoadJob, worker: WorkerClient, progress: Progress) -> None:
        """Publish how far a job is; the caller holds the lock."""
        job.progress, left_s = progress, job.pace.left(progress)
        if self._job is job:
            state = replace(self._state, progress=progress, worker_pid=worker.pid, moving=job.moving)
            self._become(replace(state, left_s=left_s, lasted_s=job.pace.lasted))

    def _succeeded(self, job: LoadJob, report: LoadReport) -> SnugError | None:
        with self.changed:
            if self._worker is None or (job.cancelled and not report.moved):
                return Cancelled()
            if self._worker.failure is not None:
                return self._worker.failure
            plan = job.plan
            if report.moved and self._standing is not None:
                # Its process sees the GPUs that it saw from the start.
                plan = replace(plan, visible_gpus=self._standing.plan.visible_gpus)
            state = ModelState("ready", plan, report, worker_pid=self._worker.pid)
            self._worker_plan, self._standing = plan, Standing(state, plan, job.files)
            if self._job is not job:
                return Cancelled()  # a newer load goes on from here
            self._become(state)
        return None

    def _failed(self, job: LoadJob, error: SnugError) -> None:
        with self.changed:
            worker, standing = self._worker, self._standing
            if worker is not None and standing is not None:
                if worker.alive:
                    # Nothing was begun, or everything went back.
                    if self._job is job:
                        self._last_plan = standing.plan
                        self._become(standing.state)
                    return
                if not isinstance(worker.failure, NotLoaded):
                    error = worker.failure or error
        # A load that broke off leaves memory behind in its process: the next one gets a fresh one.
        self._end_model()
        with self.changed:
            if self._job is not job:
                return
            if isinstance(error, WorkerCrashed | WorkerHung):
                self._become(ModelState("crashed", job.plan, error=error))
            else:
                cancelled = isinstance(error, Cancelled)
                self._become(
                    ModelState(error=None if cancelled else error, failed=None if cancelled else job.plan)
                )
        self._spare.start(self._engine or job.plan.engine)

    def _spawn(self, engine: str, plan: Plan | None = None) -> WorkerClient:
        return self._around.spawn(engine, plan, self._exited)

    def _exited(self, client: WorkerClient, error: SnugError) -> None:
        """A process ended by itself (called on its listener's thread)."""
        self._spare.ended(client)
        with self.changed:
            # While it loads, the load's thread learns of it from its task.
            if client is not self._worker or self._state.status != "ready":
                return
            plan = self._state.plan
            self._worker = self._worker_plan = self._standing = None
            self._become(ModelState("crashed", plan, self._state.report, error))
        remove_offloaded(self._folders, self._around.offload_folder())

    def _end_model(self) -> UnloadReport:
        with self.changed:
            worker, plan = self._worker, self._worker_plan
            self._worker = self._worker_plan = self._standing = None
        if worker is None or plan is None:
            return UnloadReport(0, 0, 0.0)
        if not worker.alive:
            worker.close()
            report = UnloadReport(0, 0, 0.0)
        else:
            held = self._around.held(worker.pid, plan)
            report = release(worker.close, held=held, read=lambda: self._around.free(plan))
        remove_offloaded(self._folders, self._around.offload_folder())
        return report

    def _become(self, state: ModelState) -> None:
        """Change the state; the caller holds the lock."""
        self._state = state
        self.on_change()
        self.changed.notify_all()
