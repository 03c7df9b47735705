"""Runs inside NVFlare's job at the server: hands every request to its site, and the answer back through the door.

Only NVFlare and the standard library are imported here.
"""

import os
import threading
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from polysite.engines.door import VARIABLE, Closed, knock, receive, send
from polysite.engines.nvflare.words import CONTENT, TASK
from polysite.parent import end_with

WORDS = {ReturnCode.EXECUTION_EXCEPTION: "`polysite join` ended there, or was interrupted"}
"""NVFlare's word for a trouble -> ours."""


class Relay(Controller):
    """Carries until the door closes.

    Parameters
    ----------
    patience_s : int
        A site that has not answered after so many seconds is reported as a trouble.
    """

    def __init__(self, patience_s: int = 3600) -> None:
        super().__init__(task_check_period=0.05)
        end_with(os.getppid())
        self.patience_s = patience_s
        self._lock = threading.Lock()

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing to prepare."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing to end."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """One request after another; answers are sent back as they come."""
        channel = knock(os.environ[VARIABLE])
        try:
            while True:
                site, content, _ = receive(channel, lambda: bool(abort_signal.triggered))
                self._hand_over(channel, site, content, fl_ctx)
        except Closed as closed:
            self.log_info(fl_ctx, f"the door is closed: {closed}")
        finally:
            channel.close()

    def _hand_over(self, channel: Any, site: str, content: bytes, fl_ctx: FLContext) -> None:
        answered = threading.Event()

        def reply(content: bytes, *, trouble: bool = False) -> None:
            if answered.is_set():
                return
            answered.set()
            with self._lock:
                send(channel, site, content, trouble=trouble)

        def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
            result = client_task.result
            code, answer = result.get_return_code(), result.get(CONTENT)
            client_task.result = None
            if code == ReturnCode.OK and isinstance(answer, bytes):
                reply(answer)
            else:
                reply(WORDS.get(code, str(code)).encode(), trouble=True)

        def done(task: Task, fl_ctx: FLContext) -> None:
            if task.completion_status == TaskCompletionStatus.TIMEOUT:
                reply(f"no answer within {self.patience_s} s".encode(), trouble=True)
            elif task.completion_status != TaskCompletionStatus.OK:
                reply(str(task.completion_status).encode(), trouble=True)

        task = Task(
            TASK,
            Shareable({CONTENT: content}),
            timeout=self.patience_s,
            result_received_cb=received,
            task_done_cb=done,
        )
        self.broadcast(task, fl_ctx, targets=[site], min_responses=1)

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """An answer after its time: the site keeps its round, and gives it again when it is asked again."""
