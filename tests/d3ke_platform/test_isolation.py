from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from isolated_object import Fragile

from d3ke.errors import InvalidInputError
from d3ke_platform.errors import ChildCrashedError, ChildMemoryError, ChildTimeoutError
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


def test_a_stream_gives_items_as_they_are_made(isolated: Isolated) -> None:
    assert list(isolated.stream("count", 5)) == [0, 1, 2, 3, 4]
    assert list(isolated.stream("count", 0)) == []
    assert isolated.call("add", 1) == 5


def test_the_child_goes_on_while_an_item_is_used_but_not_far(isolated: Isolated) -> None:
    items = isolated.stream("count", 1000)
    assert next(items) == 0
    time.sleep(0.5)
    rest = list(items)
    assert rest[-1] == 999
    assert isolated.call("value") == 999


def test_a_call_may_take_its_time_as_long_as_it_says_so() -> None:
    with Isolated(Fragile, timeout_s=2.5) as isolated:
        assert isolated.call("work", 16, pause_s=0.25, signs=True) == 16
        with pytest.raises(ChildTimeoutError):
            isolated.call("work", 16, pause_s=0.25, signs=False)


def test_a_sign_of_life_means_nothing_outside_of_a_child() -> None:
    assert Fragile().work(1, pause_s=0.0, signs=True) == 1


def test_signs_of_life_extend_the_time_and_their_lack_ends_the_child(isolated: Isolated) -> None:
    isolated.call("add", 1)
    isolated._timeout_s = 1.5
    assert list(isolated.stream("count", 4, pause_s=0.7)) == [0, 1, 2, 3]
    items = isolated.stream("break_off", "hang")
    assert next(items) == 1
    with pytest.raises(ChildTimeoutError):
        next(items)


@pytest.mark.parametrize(
    ("fault", "error"), [("crash", ChildCrashedError), ("refuse", InvalidInputError)]
)
def test_a_stream_that_fails_has_given_what_came_before(
    isolated: Isolated, fault: str, error: type[Exception]
) -> None:
    items = isolated.stream("break_off", fault)
    assert next(items) == 1
    with pytest.raises(error):
        next(items)
    assert list(isolated.stream("count", 2)) == [0, 1]


@pytest.mark.parametrize(
    ("fault", "error"), [("leave", ChildCrashedError), ("stop", ChildTimeoutError)]
)
def test_an_answer_that_breaks_off_in_its_middle(
    isolated: Isolated, fault: str, error: type[Exception]
) -> None:
    isolated._timeout_s = 3.0
    items = isolated.stream("break_an_answer", fault)
    assert next(items) == b"1"
    time.sleep(1.5)
    with pytest.raises(error):
        next(items)
    assert isolated.call("add", 1) == 2


def test_a_stream_that_is_left_ends_the_child(isolated: Isolated) -> None:
    pid = isolated.call("pid")
    items = isolated.stream("count", 1000)
    next(items)
    items.close()
    assert not alive(pid)
    assert isolated.call("add", 1) == 2


def test_memory_is_limited_and_the_next_call_starts_afresh() -> None:
    with Isolated(partial(Fragile, 1), timeout_s=60.0, memory_bytes=300_000_000) as child:
        assert child.call("fill", 100_000_000) == 100_000_000
        with pytest.raises(ChildMemoryError, match=r"more than the 0\.3 GB"):
            child.call("fill", 500_000_000)
        assert child.call("add", 1) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own means, on Linux only")
def test_a_hanging_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import threading, time
from functools import partial
from isolated_object import Fragile
from d3ke_platform.isolation import Isolated
if __name__ == "__main__":
    child = Isolated(partial(Fragile, 1), timeout_s=60.0)
    # From a thread that ends: the child must outlive it.
    thread = threading.Thread(target=child.call, args=("add", 1))
    thread.start()
    thread.join()
    pid = child.call("pid")
    threading.Thread(target=child.call, args=("hang",), daemon=True).start()
    time.sleep(0.5)
    open({str(tmp_path / "pid")!r}, "w").write(str(pid))
    time.sleep(60)
"""
    script = tmp_path / "parent.py"
    script.write_text(program)
    here = Path(__file__).parent
    paths = [str(here), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until
            assert parent.poll() is None
            time.sleep(0.1)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
    finally:
        parent.kill()
        parent.wait()
    until = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < until
        time.sleep(0.05)
