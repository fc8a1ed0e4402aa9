from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial

import pytest
from isolated_object import Fragile

from d3ke.errors import InvalidInputError
from d3ke_platform.errors import ChildCrashedError, ChildTimeoutError
from d3ke_platform.isolation import Isolated


@pytest.fixture
def isolated() -> Iterator[Isolated]:
    with Isolated(partial(Fragile, 1), timeout_s=60.0) as child:
        yield child


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_state_lives_in_one_child(isolated: Isolated) -> None:
    assert isolated.call("add", 2, times=3) == 7
    assert isolated.call("add", 1) == 8
    assert isolated.call("pid") != os.getpid()


def test_errors_keep_type_and_show_the_childs_traceback(isolated: Isolated) -> None:
    with pytest.raises(InvalidInputError, match="marker RASI: is missing") as caught:
        isolated.call("refuse")
    assert "isolated_object.py" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match=r"RuntimeError: .*odd"):
        isolated.call("unpicklable")
    assert isolated.call("add", 1) == 2


@pytest.mark.parametrize(("method", "cause"), [("crash", "signal 11"), ("leave", r"\(3\)")])
def test_a_dead_child_is_an_error_and_is_replaced(
    isolated: Isolated, method: str, cause: str
) -> None:
    isolated.call("add", 41)
    with pytest.raises(ChildCrashedError, match=f"Fragile.{method}.*{cause}"):
        isolated.call(method)
    assert isolated.call("add", 1) == 2  # a new object


def test_a_hanging_child_is_ended(isolated: Isolated) -> None:
    pid = isolated.call("pid")
    isolated._timeout_s = 0.5
    began = time.monotonic()
    with pytest.raises(ChildTimeoutError, match=r"Fragile\.sleep: no answer within 0\.5 s"):
        isolated.call("sleep", 60)
    assert time.monotonic() - began < 10
    assert not alive(pid)


def test_the_factorys_error_is_raised_at_every_call() -> None:
    with Isolated(partial(Fragile, -1), timeout_s=60.0) as child:
        for _ in range(2):
            with pytest.raises(InvalidInputError, match="start: is negative"):
                child.call("add", 1)


def test_close_ends_the_child_and_can_be_repeated(isolated: Isolated) -> None:
    pid = isolated.call("pid")
    isolated.close()
    isolated.close()
    assert not alive(pid)
