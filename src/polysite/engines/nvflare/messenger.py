"""Runs inside NVFlare's job at a hospital: brings a request through the door and takes the answer back.

Only NVFlare and the standard library are imported here: this process never sees a scan, a model or a policy.
"""

import os

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from polysite.engines.door import VARIABLE, Closed, knock, receive, send
from polysite.engines.nvflare.words import CONTENT, ENDED, TASK
from polysite.parent import end_with


class Messenger(Executor):
    """One request, one answer; at the end of the job, word that it has ended."""

    def __init__(self) -> None:
        super().__init__()
        end_with(os.getppid())

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell the hospital's own process that this job has ended, however it did."""
        if event_type != EventType.END_RUN:
            return
        try:
            with knock(os.environ[VARIABLE]) as channel:
                send(channel, ENDED, b"")
        except Closed as closed:
            self.log_info(fl_ctx, f"nobody to tell that the job has ended: {closed}")

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Ask the hospital's own process."""
        content = shareable.get(CONTENT)
        if task_name != TASK or not isinstance(content, bytes):
            return make_reply(ReturnCode.TASK_UNKNOWN)
        try:
            channel = knock(os.environ[VARIABLE])
        except Closed as closed:
            self.log_error(fl_ctx, f"`polysite join` does not run here any more: {closed}")
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        try:
            send(channel, "", content)
            _, answer, trouble = receive(channel, lambda: bool(abort_signal.triggered))
        except Closed as closed:
            self.log_error(fl_ctx, f"no answer from `polysite join`: {closed}")
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        finally:
            channel.close()
        if trouble:
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        return Shareable({CONTENT: answer})
