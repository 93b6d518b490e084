"""Outbox: send jobs to the workers of a pool, and messages that stop or wake them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipckit._native as native
from ipckit._pool.messages import CALL, JOB_HEAD, KIND_SHIFT, LONG_CALL, NUDGE, REFERENCE, STOP
from ipckit._process_queue.spill import Spill

if TYPE_CHECKING:
    from ipckit._pool.plan import Plan
    from ipckit._pool.task import Task
    from ipckit._process_queue.pickling import Parts


class Outbox:
    """Sends messages to the workers. Only `stop` can wait.

    Args:
        plan: the objects that the pool shares with its workers.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._send_one = plan.jobs._send_one  # noqa: SLF001 - its `progress` shows what was sent
        # A job without a block goes to the file of long jobs, so this spill file stays empty.
        self._spill = Spill(plan.jobs)

    def send(self, task: Task, number: int, progress: list[int]) -> None:
        """Send a task's job, and set ``progress[0]`` to 1 when it is sent.

        Args:
            task: the task.
            number: the number of the job.
            progress: the list [0]. Its item tells whether the job was sent, even if a signal
                handler raises an exception.

        Raises:
            WouldBlock: the channel is full, or a stopped process holds its lock.
            LimitReached: there is no memory for the job.
        """
        if task.long_job is None:
            head, message = JOB_HEAD.pack(CALL << KIND_SHIFT | number), task.message
            if isinstance(message, bytes):
                if len(message) < native.INLINE_MAX - len(head):
                    self._send_one(head + message, 0, progress)
                    return
                parts: Parts = [head, message]
            else:
                parts = [head, *(message or ())]
            if self._spill.file.send_parts(parts, 0):
                progress[0] = 1
                return
            task.long_job = self._plan.long_jobs.put(parts[1:])
        head = JOB_HEAD.pack(LONG_CALL << KIND_SHIFT | number)
        self._send_one(head + REFERENCE.pack(task.long_job.offset, task.long_job.size), 0, progress)

    def ring(self, count: int) -> None:
        """Wake up to `count` workers that wait for their bells, after messages were sent."""
        for place in self._plan.board.wake_sleepers(count):
            self._plan.bells[place].ring()

    def nudge(self) -> None:
        """Wake a worker, so that it looks for a job of a dead worker and returns it."""
        self._plan.jobs.send(JOB_HEAD.pack(NUDGE << KIND_SHIFT), timeout=0)
        self.ring(1)

    def stop(self, timeout: float) -> None:
        """Send a message that makes one worker exit.

        Args:
            timeout: seconds to wait for room in the channel.
        """
        self._plan.jobs.send(JOB_HEAD.pack(STOP << KIND_SHIFT), timeout=timeout)

    def close(self) -> None:
        """Close the spill file; idempotent."""
        self._spill.close()
