"""An object in a child process: crashes and hangs of native code cannot take the worker along.

OpenSim and video decoders are native code. In a Ray actor a segmentation fault would end the
actor and everything it holds, and Ray would retry the same input for ever.
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from d3ke_platform.errors import ChildCrashedError, ChildTimeoutError

START_TIMEOUT_S = 300.0  # interpreter start and imports on a loaded machine


class Isolated:
    """An object made by `factory()` in a spawned child process; methods are called by name.

    `factory` must be picklable (a class or `functools.partial` of one). The child starts at the
    first call. After a crash or a timeout the next call starts a new child.
    """

    def __init__(self, factory: Callable[[], Any], *, timeout_s: float) -> None:
        self._factory = factory
        self._timeout_s = timeout_s
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Result of the object's method.

        An exception of the method is raised here again, with the child's traceback as a note.
        Raises ChildCrashedError when the child dies and ChildTimeoutError after `timeout_s`.
        """
        connection = self._started(method)
        try:
            connection.send((method, arguments, keywords))
        except (BrokenPipeError, ConnectionError) as error:
            raise self._crashed(method) from error
        return self._receive(connection, method, self._timeout_s)

    def close(self) -> None:
        """End the child; the next call would start a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            if self._process.is_alive():
                self._process.kill()
            self._process.join()
            self._process = None

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _started(self, method: str) -> Connection:
        if self._connection is None or self._process is None or not self._process.is_alive():
            self.close()
            context = multiprocessing.get_context("spawn")
            self._connection, child_end = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(child_end, self._factory), daemon=True
            )
            self._process.start()
            child_end.close()  # so that the child's death ends our reading
            try:
                self._receive(self._connection, f"start for {method}", START_TIMEOUT_S)
            except Exception:
                self.close()  # it ends by itself, but may still look alive at the next call
                raise
        return self._connection

    def _receive(self, connection: Connection, method: str, timeout_s: float) -> Any:
        started = time.monotonic()
        try:
            while not connection.poll(1.0):
                if time.monotonic() - started > timeout_s:
                    self.close()
                    raise ChildTimeoutError(self._name(method), timeout_s)
            succeeded, content = connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._crashed(method) from error
        if succeeded:
            return content
        failure, text = content
        failure.add_note(text)
        raise failure

    def _crashed(self, method: str) -> ChildCrashedError:
        status = None
        if self._process is not None:
            self._process.join(10.0)
            status = self._process.exitcode
        self.close()
        return ChildCrashedError(self._name(method), status)

    def _name(self, method: str) -> str:
        target = getattr(self._factory, "func", self._factory)
        return f"{getattr(target, '__name__', 'object')}.{method}"


def _serve(connection: Connection, factory: Callable[[], Any]) -> None:
    """Child's main loop; ends when the parent closes its end or dies."""
    target = None
    try:
        target = factory()
        answer: tuple[bool, Any] = (True, None)
    except Exception as error:  # noqa: BLE001  sent to the parent
        answer = (False, _portable(error))
    while True:
        try:
            connection.send(answer)
            if target is None:
                return
            method, arguments, keywords = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, getattr(target, method)(*arguments, **keywords))
        except Exception as error:  # noqa: BLE001  sent to the parent
            answer = (False, _portable(error))


def _portable(error: Exception) -> tuple[Exception, str]:
    """The error, or a RuntimeError in its place when it cannot be pickled, and its traceback."""
    text = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))  # nosec B301
    except Exception:  # noqa: BLE001  any failure to pickle has the same remedy
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return error, text
