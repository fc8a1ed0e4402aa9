"""An object in a child process: crashes and hangs of native code cannot take the worker along.

OpenSim and video decoders are native code. In a Ray actor a segmentation fault would end the
actor and everything it holds, and Ray would retry the same input for ever. A child dies with
its parent, however that ends, and can be given a limit of memory.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar, TypeVar

from d3ke_platform.errors import ChildCrashedError, ChildMemoryError, ChildTimeoutError

T = TypeVar("T")

START_TIMEOUT_S = 300.0  # interpreter start and imports on a loaded machine
_PR_SET_PDEATHSIG, _M_ARENA_MAX = 1, -8
_VALUE, _ERROR, _ITEM, _END, _SIGN = "value", "error", "item", "end", "sign of life"
_SIGNS_APART_S = 1.0


class Isolated:
    """An object made by `factory()` in a spawned child process; methods are called by name.

    `factory` must be picklable (a class or `functools.partial` of one). The child starts at the
    first call. After a crash or a timeout the next call starts a new child. It ends when its
    parent ends, even a parent that is killed and a child that hangs (Linux).
    """

    def __init__(
        self, factory: Callable[[], Any], *, timeout_s: float, memory_bytes: int = 0
    ) -> None:
        """Nothing is started yet.

        Args:
            factory: Makes the object.
            timeout_s: Longest wait for an answer, for the next item of a stream, or for the next
                `sign_of_life`, s.
            memory_bytes: Address space the child may take beyond what it has once the object is
                made, bytes; 0: no limit. What goes beyond is a ChildMemoryError.
        """
        self._factory = factory
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Start the child if there is none: what fails here is no later call's fault."""
        self._started("start")

    def call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Result of the object's method.

        An exception of the method is raised here again, with the child's traceback as a note.
        Raises ChildCrashedError when the child dies and ChildTimeoutError after `timeout_s`.
        """
        connection = self._request(method, False, arguments, keywords)
        return self._receive(connection, method, self._timeout_s)[1]

    def stream(self, method: str, *arguments: Any, **keywords: Any) -> Generator[Any, None, None]:
        """Items of the object's generator method, as they are made.

        The child goes on while the caller is busy, two items ahead at most. None is not passed
        on: a generator yields it as a sign of life, for `timeout_s` counts from sign to sign.
        Errors as with `call`; a stream that is left before its end ends the child.
        """
        connection = self._request(method, True, arguments, keywords)
        ended = False
        try:
            while True:
                kind, content = self._receive(connection, method, self._timeout_s)
                if kind == _END:
                    ended = True
                    return
                if content is not None:
                    yield content
        except GeneratorExit:
            raise
        except BaseException:
            ended = True  # an error of the method: the child is well, or closed already
            raise
        finally:
            if not ended:
                self.close()

    def _request(
        self, method: str, stream: bool, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Connection:
        connection = self._started(method)
        try:
            connection.send((method, stream, arguments, keywords))
        except (BrokenPipeError, ConnectionError) as error:
            raise self._crashed(method) from error
        return connection

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
                target=_serve,
                args=(child_end, self._factory, self._memory_bytes, os.getpid()),
                daemon=True,
            )
            _starter().submit(_start, self._process).result()
            child_end.close()  # so that the child's death ends our reading
            try:
                self._receive(self._connection, f"start for {method}", START_TIMEOUT_S)
            except Exception:
                self.close()  # it ends by itself, but may still look alive at the next call
                raise
        return self._connection

    def _receive(self, connection: Connection, method: str, timeout_s: float) -> tuple[str, Any]:
        message: tuple[str, Any] = (_SIGN, None)
        while message[0] == _SIGN:
            message = self._next(connection, method, timeout_s)
        kind, content = message
        if kind != _ERROR:
            return kind, content
        failure, text = content
        if isinstance(failure, MemoryError):
            failure = ChildMemoryError(self._name(method), self._memory_bytes / 1e9)
            self.close()  # what it holds is not known
        failure.add_note(text)
        raise failure

    def _next(self, connection: Connection, method: str, timeout_s: float) -> tuple[str, Any]:
        """What the child sends next."""
        deadline = time.monotonic() + timeout_s
        while not connection.poll(1.0):
            if time.monotonic() > deadline:
                raise self._timed_out(method, timeout_s)
        # A child can also die or stop in the middle of an answer.
        watch = threading.Timer(max(timeout_s, 1.0), self._kill)
        watch.start()
        try:
            message: tuple[str, Any] = connection.recv()
        except (EOFError, OSError) as error:
            if watch.finished.is_set():
                raise self._timed_out(method, timeout_s) from error
            raise self._crashed(method) from error
        finally:
            watch.cancel()
        return message

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _timed_out(self, method: str, timeout_s: float) -> ChildTimeoutError:
        self.close()
        return ChildTimeoutError(self._name(method), timeout_s)

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


def patiently(
    action: Callable[[], T],
    retries: int,
    *,
    cause: Callable[[Exception], Exception] = lambda error: error,
) -> T:
    """Result of an action; where a child dies or hangs in it, it is tried again `retries` times.

    What ended the child may have been meant for others: want of memory on the machine.

    Args:
        action: Starts a child of its own where there is none.
        retries: Times it is tried again.
        cause: What an error that it raises is about.
    """
    for _ in range(retries):
        try:
            return action()
        except Exception as error:
            if not isinstance(cause(error), ChildCrashedError | ChildTimeoutError):
                raise
    return action()


@cache
def _starter() -> ThreadPoolExecutor:
    """One thread that starts all children and lives as long as the process.

    A child is told to end when the *thread* that started it ends (prctl(2)), and the threads of
    a worker come and go.
    """
    return ThreadPoolExecutor(1, thread_name_prefix="children")


def _start(process: BaseProcess) -> None:
    """Start a child that does not run this process's main script again, which in a Ray worker
    would load Ray."""
    main = sys.modules["__main__"]
    script = main.__dict__.pop("__file__", None)
    try:
        process.start()
    finally:
        if script is not None:
            main.__file__ = script


def sign_of_life() -> None:
    """In a child: `timeout_s` counts from here. For long loops; does nothing anywhere else."""
    if _Answers.of_child is not None:
        _Answers.of_child.sign()


def _serve(
    connection: Connection, factory: Callable[[], Any], memory_bytes: int, parent: int
) -> None:
    """Child's main loop; ends when the parent closes its end or dies."""
    _die_with(parent)
    answers = _Answers.of_child = _Answers(connection)
    target = None
    try:
        if memory_bytes:
            _keep_heaps_few()
        target = factory()
        _limit_memory(memory_bytes)
        answers.put(_VALUE, None)
    except Exception as error:  # noqa: BLE001  sent to the parent
        answers.put(_ERROR, _portable(error))
    while target is not None:
        try:
            method, stream, arguments, keywords = connection.recv()
        except (EOFError, OSError):
            return
        try:
            result = getattr(target, method)(*arguments, **keywords)
            if stream:
                for item in result:
                    answers.put(_ITEM, item)
            answers.put(_END if stream else _VALUE, None if stream else result)
        except Exception as error:  # noqa: BLE001  sent to the parent
            answers.put(_ERROR, _portable(error))
        result = None
    answers.flush()


class _Answers:
    """Sends answers from a thread of its own, so that the next is made while one is sent."""

    of_child: ClassVar[_Answers | None] = None
    """Those of this process, where it is a child."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._signed_at = time.monotonic()
        self._waiting: queue.Queue[tuple[str, Any]] = queue.Queue(1)
        threading.Thread(target=self._send, name="answers", daemon=True).start()

    def put(self, kind: str, content: Any) -> None:
        self._waiting.put((kind, content))

    def sign(self) -> None:
        """Say now and then that work goes on; while an answer waits nobody needs to be told."""
        now = time.monotonic()
        if now - self._signed_at >= _SIGNS_APART_S:
            self._signed_at = now
            with suppress(queue.Full):
                self._waiting.put_nowait((_SIGN, None))

    def flush(self) -> None:
        """Return when everything is sent."""
        self._waiting.join()

    def _send(self) -> None:
        while True:
            answer = self._waiting.get()
            try:
                self._connection.send(answer)
            except (OSError, ValueError):
                os._exit(1)  # nobody listens any more
            except Exception as error:  # noqa: BLE001  a result that cannot be pickled
                self._connection.send((_ERROR, _portable(error)))
            del answer
            self._waiting.task_done()


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends (Linux)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _keep_heaps_few() -> None:
    """Let threads share heaps: glibc sets 64 MB of address space aside for each of its own."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, others need it not
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 2)


def _limit_memory(more_bytes: int) -> None:
    """Let this process's address space grow by so much and no more (Linux)."""
    if not more_bytes or sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm", encoding="ascii") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + more_bytes, taken + more_bytes))


def _portable(error: BaseException) -> tuple[BaseException, str]:
    """The error, or a RuntimeError in its place when it cannot be pickled, and its traceback."""
    text = traceback.format_exc()
    if isinstance(error, MemoryError):
        return MemoryError(), text
    try:
        pickle.loads(pickle.dumps(error))  # nosec B301
    except Exception:  # noqa: BLE001  any failure to pickle has the same remedy
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return error, text
