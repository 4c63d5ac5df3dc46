"""The one background thread on which the blocking clients of this process run their event loop.

It is a daemon thread: a program that ends never hangs on it. A forked child has no such thread; clients made before the
fork say so when used there, and new ones get a loop of their own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final, TypeVar

from ..proto.errors import IllegalStateError, KafkaTimeoutError

Result = TypeVar("Result")

_lock: Final = threading.Lock()
_current: LoopThread | None = None


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = _new_event_loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="klamm-client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, Result], timeout_s: float | None = None) -> Result:
        """Runs a coroutine on the loop and waits for it; it is cancelled if the time is up.

        :raises KafkaTimeoutError: the time is up.
        :raises IllegalStateError: called on the loop itself, where waiting would wait for ever, or after a fork.
        """
        try:
            self.check()
        except IllegalStateError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            if future.done():
                raise
            future.cancel()
            raise KafkaTimeoutError(f"no answer within {timeout_s} s") from None
        except BaseException:
            future.cancel()  # Ctrl-C while waiting must not leave the work behind
            raise

    def check(self) -> None:
        """:raises IllegalStateError: this thread may not wait for the loop."""
        if self._pid != os.getpid():
            raise IllegalStateError("this client was made before a fork; make a new one in the child")
        if threading.get_ident() == self._thread.ident:
            raise IllegalStateError("a blocking call inside a callback would wait for itself; use the asyncio client")


def loop_thread() -> LoopThread:
    """The process's loop thread, started when it is first asked for."""
    global _current
    with _lock:
        if _current is None:
            _current = LoopThread()
        return _current


def _forget_after_fork() -> None:
    global _current
    _current = None


os.register_at_fork(after_in_child=_forget_after_fork)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
