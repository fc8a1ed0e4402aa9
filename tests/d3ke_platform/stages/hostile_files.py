"""Broken and hostile files for an archive, each with how it has to end."""

from __future__ import annotations

import os
import struct
import wave
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
from video_files import cut_off, frame_image, write_video

RESULTS = "results"
EITHER = "results or a reason"
"""Of damage that a decoder may conceal: what matters is that it ends."""
COUNT = 30
SIZE = (160, 120)

_BROKEN = "cannot be opened as a video: truncated or not a video"
_SHORT = r"breaks off after \d+ frames|is damaged .*after \d+ frames|holds no video frame"
_LARGE = "states no picture size, or one above 64 megapixels"


def write_corpus(folder: Path) -> dict[str, str]:
    """Write all files; returns, by path below `folder`, `RESULTS`, `EITHER` or a reason's pattern.

    The patterns hold for the stage that meets the file first: the listing or the decoder.
    """
    archive = folder / "archive"
    archive.mkdir(parents=True)
    originals = folder / "originals"
    originals.mkdir()
    expected: dict[str, str] = {}
    makers = (_truncated, _flipped, _foreign, _headers, _streams, _names, _lists, _places)
    for maker in makers:
        expected |= maker(archive, originals)
    return expected


def _originals(folder: Path) -> dict[str, Path]:
    kinds: dict[str, Callable[[Path], Path]] = {
        "index_last.mp4": lambda path: write_video(path, COUNT, size=SIZE),
        "index_first.mp4": lambda path: write_video(path, COUNT, size=SIZE, index_first=True),
        "a.mkv": lambda path: write_video(path, COUNT, size=SIZE, b_frames=2),
        "a.avi": lambda path: write_video(path, COUNT, size=SIZE, codec="mpeg4"),
        "a.ts": lambda path: write_video(path, COUNT, size=SIZE, b_frames=2),
        "a.webm": lambda path: write_video(path, COUNT, size=SIZE, codec="libvpx"),
    }
    for name, write in kinds.items():
        if not (folder / name).exists():
            write(folder / name)
    return {name: folder / name for name in kinds}


def _truncated(archive: Path, originals: Path) -> dict[str, str]:
    expected = {}
    for name, path in _originals(originals).items():
        for tenth in range(1, 10) if name.endswith("mp4") else (3, 6, 9):
            target = cut_off(path, archive / f"cut_{tenth}_{name}", tenth / 10)
            reason = f"{_BROKEN}|{_SHORT}"
            if name == "index_last.mp4":
                reason = _BROKEN
            # These containers state no length: what is there is all that is known.
            expected[target.name] = EITHER if name in ("a.ts", "a.avi", "a.webm") else reason
    return expected


def _flipped(archive: Path, originals: Path) -> dict[str, str]:
    expected = {}
    for kind, path in enumerate(_originals(originals).values()):
        for seed in range(3):
            generator = np.random.default_rng(100 * kind + seed)
            content = np.frombuffer(path.read_bytes(), np.uint8).copy()
            places = generator.integers(0, len(content), 20 * 10**seed // 4)
            content[places] ^= (1 << generator.integers(0, 8, len(places))).astype(np.uint8)
            target = archive / f"flipped_{seed}_{path.name}"
            target.write_bytes(content.tobytes())
            expected[target.name] = EITHER
    return expected


def _foreign(archive: Path, originals: Path) -> dict[str, str]:
    picture = cv2.resize(frame_image(0, SIZE), (64, 48))
    contents = {
        "zero.mp4": (b"", "the file is empty"),
        "zeros.mp4": (bytes(10_000), "begins with zero bytes only"),
        "text.mp4": (b"no video at all\n" * 50, _BROKEN),
        "page.mkv": (b"<!DOCTYPE html><html><body>404</body></html>", _BROKEN),
        "noise.mp4": (np.random.default_rng(0).bytes(5000), _BROKEN),
        "photo.mp4": (cv2.imencode(".png", picture)[1].tobytes(), r"is a picture \(PNG\)"),
        "photo.mov": (cv2.imencode(".jpg", picture)[1].tobytes(), r"is a picture \(JPEG\)"),
        "head_only.mkv": (b"\x1a\x45\xdf\xa3" + bytes(50), _BROKEN),
        "no_index.mp4": (_without_moov(_originals(originals)["index_last.mp4"]), _BROKEN),
    }
    for name, (content, _) in contents.items():
        (archive / name).write_bytes(content)
    with wave.open(str(archive / "sound.mp4"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    expected = {name: reason for name, (_, reason) in contents.items()}
    return expected | {"sound.mp4": r"holds no video stream \(only audio\)"}


def _without_moov(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: content.index(b"moov") - 4]


def _headers(archive: Path, originals: Path) -> dict[str, str]:
    paths = _originals(originals)
    mp4, mkv = paths["index_last.mp4"].read_bytes(), paths["a.mkv"].read_bytes()
    avi = bytearray(paths["a.avi"].read_bytes())
    size_at = mp4.index(b"avc1", mp4.index(b"stsd")) + 28
    frame_time = b"\x23\xe3\x83\x84"
    stated = mkv.index(frame_time) + 4
    huge = struct.pack(">HH", 20_000, 20_000)
    long_at = mp4.index(b"mdhd") + 20
    files = {
        "no_rate.mkv": (mkv[:stated] + bytes(4) + mkv[stated + 4 :], RESULTS),
        "long.mp4": (mp4[:long_at] + b"\xff\xff\xff\xf0" + mp4[long_at + 4 :], RESULTS),
        # The stream itself says 160 x 120, and is believed.
        "large_box.mp4": (mp4[:size_at] + huge + mp4[size_at + 4 :], RESULTS),
    }
    struct.pack_into("<II", avi, avi.index(b"vids") + 20, 0, 0)
    files["no_rate.avi"] = (bytes(avi), RESULTS)
    for name, (content, _) in files.items():
        (archive / name).write_bytes(content)
    _large_pictures(archive)
    write_video(archive / "leap.mkv", 4, times=[0, 40, 900_000_000, 900_000_040])
    return {name: reason for name, (_, reason) in files.items()} | {
        "large_20000.avi": _LARGE,
        "large_10000.avi": _LARGE,
        "large_inside.webm": "a picture above 64 megapixels, or damage",
        "leap.mkv": "timestamps leap by 900000 s after frame 1",
    }


def _large_pictures(archive: Path) -> None:
    """Headers that ask for hundreds of megapixels: the container's, and the pictures' own."""
    for side in (20_000, 10_000):
        path = write_video(archive / f"large_{side}.avi", 3, codec="ffv1")
        content = bytearray(path.read_bytes())
        struct.pack_into("<II", content, content.index(b"strf") + 12, side, side)
        path.write_bytes(content)
    path = write_video(archive / "large_inside.webm", 3, codec="libvpx")
    content = bytearray(path.read_bytes())
    at = -1
    while (at := content.find(b"\x9d\x01\x2a", at + 1)) >= 0:
        struct.pack_into("<HH", content, at + 3, 16_383, 16_383)
    path.write_bytes(content)


def _streams(archive: Path, originals: Path) -> dict[str, str]:
    paths = _originals(originals)
    write_video(archive / "one_frame.mp4", 1, size=SIZE)
    (archive / "wrong_ending.avi").write_bytes(paths["a.mkv"].read_bytes())
    (archive / "wrong_ending.mp4").write_bytes(paths["a.webm"].read_bytes())
    sizes = [write_video(originals / f"{w}.h264", 4, size=(w, 48)) for w in (64, 32)]
    (archive / "two_sizes.h264").write_bytes(b"".join(path.read_bytes() for path in sizes))
    with av.open(str(archive / "no_frames.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return {
        "one_frame.mp4": RESULTS,
        "wrong_ending.avi": RESULTS,
        "wrong_ending.mp4": RESULTS,
        "two_sizes.h264": "change from 64 x 48 to 32 x 48 pixels at frame 4",
        "no_frames.mkv": f"{_BROKEN}|holds no video",
    }


def _names(archive: Path, originals: Path) -> dict[str, str]:
    content = write_video(originals / "short.mp4", 5, size=SIZE).read_bytes()
    names = ["with blanks.mp4", "two\nlines.mp4", "日本 ünï.mp4", "-dash.mp4", "100%?#&.mp4"]
    names += ["'quotes\".mp4", "$(touch x);`y`.mp4", "x" * 240 + ".mp4", "http:__x.mp4"]
    for number, name in enumerate(names):
        # Not copies of each other: the end of a file may hold anything.
        (archive / name).write_bytes(content + struct.pack(">I4sI", 12, b"free", number))
    return dict.fromkeys(names, RESULTS)


def _lists(archive: Path, originals: Path) -> dict[str, str]:
    """Files that would make FFmpeg read another file or the network."""
    secret = write_video(originals / "secret.ts", 5, size=SIZE)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    manifest = '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>'
    texts = {
        "playlist.mp4": (playlist.format(secret), "is an HLS playlist, which names other files"),
        "marked.ts": ("\ufeff\n" + playlist.format(secret), "is an HLS playlist"),
        "network.mov": (playlist.format("http://127.0.0.1:9/a.ts"), "is an HLS playlist"),
        "nested.mkv": (playlist.format(f"concat:{secret}|{secret}"), "is an HLS playlist"),
        "concat.mp4": (f"ffconcat version 1.0\nfile '{secret}'\n", "is a concat list"),
        "manifest.mp4": (manifest, "is a DASH manifest"),
        "session.mp4": ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 9 RTP/AVP 96\n", "is an SDP"),
    }
    for name, (text, _) in texts.items():
        (archive / name).write_text(text)
    (archive / "reference.mp4").write_bytes(_external_reference(originals, secret))
    expected = {name: reason for name, (_, reason) in texts.items()}
    return expected | {"reference.mp4": EITHER}


def _external_reference(originals: Path, target: Path) -> bytes:
    """An .mp4 whose samples are said to be in another file."""
    content = bytearray(_originals(originals)["index_last.mp4"].read_bytes())
    at = content.index(b"url ", content.index(b"dref"))
    content[at + 4 : at + 8] = bytes(4)  # no longer "in this file"
    return bytes(content.replace(b"VideoHandler", str(target).encode()[:12].ljust(12)))


def _places(archive: Path, originals: Path) -> dict[str, str]:
    video = write_video(originals / "outside.mp4", 5, size=SIZE)
    (archive / "link_out.mp4").symlink_to(video)
    (archive / "link_nowhere.mp4").symlink_to(archive / "nothing.mp4")
    (archive / "link_loop.mp4").symlink_to(archive / "link_loop.mp4")
    (archive / "folder_out").symlink_to(originals)
    (archive / "folder.mp4").mkdir()
    os.mkfifo(archive / "pipe.mp4")
    expected = {
        "link_out.mp4": "is a symbolic link to .*outside.mp4, outside of the archive",
        "link_nowhere.mp4": "is a symbolic link to .*nothing.mp4, which does not exist",
        "link_loop.mp4": "is a symbolic link to .*, which does not exist",
        "folder_out": "is a symbolic link to .*originals, outside of the archive",
        "folder.mp4": "is a folder",
        "pipe.mp4": "is a pipe, socket or device",
    }
    if os.geteuid() != 0:  # root may read everything
        (archive / "forbidden.mp4").write_bytes(video.read_bytes())
        (archive / "forbidden.mp4").chmod(0)
        expected["forbidden.mp4"] = "cannot be read .*Permission denied"
    return expected
