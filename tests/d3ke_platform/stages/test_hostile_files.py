"""Every broken or hostile file ends, as a video or with a true reason, in bounded memory."""

from __future__ import annotations

import os
import re
import socket
import stat
from pathlib import Path

import psutil
import pytest
from hostile_files import COUNT, EITHER, RESULTS, write_corpus
from video_files import write_video

from d3ke.errors import InvalidInputError
from d3ke_platform.isolation import Isolated
from d3ke_platform.pipelines.archive import list_archive
from d3ke_platform.stages.decode import frames, probe

MEMORY_BYTES = 1_000_000_000


class Decoder:
    """What of scoring touches a file; lives in a child process."""

    def decode(self, path: str) -> tuple[int, int]:
        """Frames, and the process's highest memory so far, bytes."""
        index = probe(path).index
        count = sum(1 for _ in frames(path, index=index))
        return count, highest_memory()


def highest_memory() -> int:
    """Of this process, bytes; getrusage also remembers that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("hostile")
    return folder / "archive", write_corpus(folder)


def test_every_file_ends_as_a_video_or_with_a_true_reason(
    corpus: tuple[Path, dict[str, str]],
) -> None:
    archive, expected = corpus
    assert len(expected) >= 40
    listing = list_archive(str(archive), {})
    outcomes = {row["item"]: row["reason"] for row in listing.rejects}
    peak = 0
    with Isolated(Decoder, timeout_s=60.0, memory_bytes=MEMORY_BYTES) as child:
        for item in listing.items:
            try:
                count, peak = child.call("decode", item["uri"])
                outcomes[item["uri"]] = RESULTS
                assert 0 < count <= 2 * COUNT, item
            except InvalidInputError as error:
                outcomes[item["uri"]] = str(error)
    found = {os.path.relpath(path, archive): outcome for path, outcome in outcomes.items()}
    assert found.keys() == expected.keys()
    wrong = {
        name: found[name]
        for name, pattern in expected.items()
        if pattern != EITHER and not re.search(pattern, found[name], re.DOTALL)
    }
    assert not wrong
    assert peak < MEMORY_BYTES
    left = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not [command for command in left if "spawn_main" in str(command)]


def test_ffmpeg_refuses_lists_by_itself_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second barrier, where the first one does not know a kind of list."""
    from d3ke_platform.stages import video_file

    monkeypatch.setattr(video_file, "_LISTS", {})
    secret = write_video(tmp_path / "secret.ts", 3)
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    far = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
    texts = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n",
        "b.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{far}\n#EXT-X-ENDLIST\n",
        "a.mp4": f"ffconcat version 1.0\nfile '{secret}'\n",
        "b.mp4": "ffconcat version 1.0\nfile 'fd:'\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidInputError, match="not a video"):
            probe(tmp_path / name)
    with pytest.raises(BlockingIOError):
        server.accept()
    server.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_may_not_be_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("forbidden")
    path = write_video(folder / "a.mp4", 3)
    path.chmod(0)
    for parent in [folder, *folder.parents][:4]:
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    os.seteuid(65534)
    try:
        with pytest.raises(InvalidInputError, match=r"a\.mp4: cannot be read \(Permission denied"):
            probe(path)
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pipe.mp4", "is a named pipe, not a file"),
        ("folder.mp4", "is a folder, not a file"),
        ("/dev/zero", "is a device, not a file"),
        ("a\0b.mp4", "cannot be read"),
        ("x" * 300, "cannot be read .*name too long"),
    ],
)
def test_what_is_no_file(tmp_path: Path, name: str, reason: str) -> None:
    path = os.path.join(tmp_path, name)
    if name == "pipe.mp4":
        os.mkfifo(path)
    elif name == "folder.mp4":
        os.mkdir(path)
    with pytest.raises(InvalidInputError, match=f"(?i){reason}"):
        probe(path)
