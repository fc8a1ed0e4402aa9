"""A tiny download in the formats of BML-MoVi and AMASS, all of it made up.

Names, arrays, axes and units are those of the real files (facts 3, 4); people, motions, cameras and
pictures are our own. A person, drawn as a bright silhouette of the made-up body, bends knees and
swings arms in front of two cameras.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import h5py
import numpy as np
import scipy.io
from smplh_file import write_body_model

from d3ke.camera import Camera, project
from d3ke_platform.sources.bmlmovi import BMLMoViSettings, BMLMoViSource
from d3ke_platform.sources.bmlmovi_amass import GROUND_FROM_AMASS
from d3ke_platform.sources.smplh_body import SMPLHBody
from d3ke_platform.sources.smplh_markers import to_ground

SIZE = (800, 600)
SEXES = {1: "female", 2: "male", 14: "male"}
LEAD_IN, GAP = 7, 3
"""Video frames before the first motion and between two."""
DARK, BRIGHT = 40, 210


@dataclass(frozen=True)
class MadeUpMotion:
    """A motion: its name in the Visual3D file and its length in motion capture samples."""

    name: str
    samples: int
    step_m: float = 0.0
    """How far the person glides to their right in a sample."""

    def poses(self) -> tuple[np.ndarray, np.ndarray]:
        """AMASS pose [T, 156] and translation [T, 3] of someone who faces -y in a z-up world."""
        turn = 2 * np.pi * np.arange(self.samples) / 120.0
        turns = np.zeros((self.samples, 52, 3))
        turns[:, 0, 0] = np.pi / 2  # SMPL is y up
        bend = 0.35 * (1 - np.cos(turn))
        for hip, knee, sign in ((1, 4, 1.0), (2, 5, -1.0)):
            turns[:, hip, 0] = -0.5 * bend - 0.15 * sign * np.sin(turn)
            turns[:, knee, 0] = bend
        for shoulder, elbow, sign in ((16, 18, 1.0), (17, 19, -1.0)):
            turns[:, shoulder, 2] = -0.5 * sign
            turns[:, elbow, 1] = -0.4 * sign * (1 - np.cos(turn)) / 2
        turns[:, 3, 1] = 0.1 * np.sin(turn)
        aside = self.step_m * (self.samples / 2 - np.arange(self.samples))
        place = np.stack([aside, 0.05 * np.cos(turn), np.full(self.samples, 1.2)], axis=1)
        return turns.reshape(self.samples, 156), place


MOTIONS = (MadeUpMotion("walking", 60, 0.01), MadeUpMotion("throwing/catching", 43))


def cameras() -> dict[str, Camera]:
    """Two made-up cameras, in ground: from the front and from the person's right."""
    lens = np.array([-0.2, 0.15, 0.0, 0.0, 0.0])
    views = {
        "PG1": Camera.looking_at(
            np.array([5.0, 1.3, 0.2]), np.array([0, 0.9, 0]), focal=980.0, size=SIZE
        ),
        "PG2": Camera.looking_at(
            np.array([0.3, 1.4, 4.6]), np.array([0, 0.9, 0]), focal=970.0, size=SIZE
        ),
    }
    return {
        name: Camera(
            intrinsics=view.intrinsics,
            rotation=view.rotation,
            translation=view.translation,
            size=SIZE,
            distortion=lens,
        )
        for name, view in views.items()
    }


def write_calibration(folder: Path, name: str, camera: Camera) -> None:
    """MATLAB's two files: row vectors, millimetres, z-up world, pixels from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    # MoVi's world from ground: x stays, y is left of someone facing x, z is up.
    world = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] += 1.0
    np.savez(
        folder / f"cameraParams_{name}.npz",
        IntrinsicMatrix=intrinsics.T,
        RadialDistortion=camera.distortion[:2],
        TangentialDistortion=np.zeros(2),
    )
    np.savez(
        folder / f"Extrinsics_{name}.npz",
        rotationMatrix=(camera.rotation @ world.T).T,
        translationVector=camera.translation * 1000.0,
    )


def write_amass(
    path: Path, motion: MadeUpMotion, shape: Sequence[float], **changes: np.ndarray | None
) -> None:
    """A motion file as AMASS has them; `changes` replaces arrays, None leaves one out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    turns, translation = motion.poses()
    arrays = {
        "poses": turns,
        "trans": translation,
        "betas": np.concatenate([shape, np.zeros(16 - len(shape))]),
        "dmpls": np.full((motion.samples, 8), 0.4),
        "gender": np.array("neutral"),
        "mocap_framerate": np.array(120.0),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def video_limits(motions: Sequence[MadeUpMotion] = MOTIONS) -> np.ndarray:
    """flags30: first and last video frame of each motion, from 1."""
    limits, at = [], LEAD_IN + 1
    for motion in motions:
        length = -(-motion.samples // 4)
        limits.append([at, at + length - 1])
        at += length + GAP
    return np.array(limits)


def write_v3d(path: Path, subject: int, sex: str, motions: Sequence[MadeUpMotion]) -> None:
    """A Visual3D file in MATLAB's format 5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    limits = video_limits(motions)
    move = np.empty((1, 1), object)
    names = np.array([motion.name for motion in motions], object).reshape(-1, 1)
    move[0, 0] = {"motions_list": names, "flags30": limits, "flags120": 4 * limits - 3}
    recording = {"id": f"Subject_{subject}", "subject": {"sex": sex, "age": 30}, "move": move}
    scipy.io.savemat(path, {f"Subject_{subject}_F": recording}, do_compression=True)


def write_v3d_hdf5(path: Path, subject: int, sex: str, motions: Sequence[MadeUpMotion]) -> None:
    """The same in MATLAB's format 7.3: HDF5 with classes as attributes, columns first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        cells = file.create_group("#refs#")
        recording = _struct(file, f"Subject_{subject}_F")
        _char(_struct(recording, "subject"), "sex", sex)
        move = _struct(cells, "move")
        flags = move.create_dataset("flags30", data=video_limits(motions).T.astype(float))
        flags.attrs["MATLAB_class"] = np.bytes_("double")
        for index, motion in enumerate(motions):
            _char(cells, f"name{index}", motion.name)
        _cell(move, "motions_list", [cells[f"name{i}"].ref for i in range(len(motions))])
        _cell(recording, "move", [move.ref])
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116, b" ") + bytes(8) + b"\x00\x02IM")


def _struct(parent: h5py.Group, name: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["MATLAB_class"] = np.bytes_("struct")
    return group


def _char(parent: h5py.Group, name: str, text: str) -> None:
    letters = np.array([[ord(letter)] for letter in text], np.uint16)
    data = parent.create_dataset(name, data=letters)
    data.attrs["MATLAB_class"] = np.bytes_("char")
    data.attrs["MATLAB_int_decode"] = np.int32(2)


def _cell(parent: h5py.Group, name: str, references: Sequence[h5py.Reference]) -> None:
    data = parent.create_dataset(name, (1, len(references)), dtype=h5py.ref_dtype)
    data[0, :] = references
    data.attrs["MATLAB_class"] = np.bytes_("cell")


def write_videos(
    paths: Mapping[str, Path],
    body: SMPLHBody,
    betas: Sequence[float],
    motions: Sequence[MadeUpMotion] = MOTIONS,
) -> None:
    """The long videos of a subject, one a camera; between motions the picture is empty."""
    shape = np.concatenate([betas, np.zeros(16 - len(betas))])
    end = int(video_limits(motions)[-1, 1]) + GAP
    shown: dict[int, np.ndarray] = {}
    for motion, (first, last) in zip(motions, video_limits(motions), strict=True):
        turns, translation = motion.poses()
        at = 4 * np.arange(last - first + 1)
        mesh = to_ground(body.pose(turns[at], shape, translation[at]), GROUND_FROM_AMASS)
        shown |= dict(zip(range(first - 1, last), mesh.vertices, strict=True))
    for name, path in paths.items():
        pictures = (silhouette(cameras()[name], shown.get(frame)) for frame in range(end))
        write_video(path, pictures)


def write_video(path: Path, pictures: Iterable[np.ndarray], *, fps: int = 30) -> None:
    """An AVI of motion JPEG pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=fps)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def silhouette(camera: Camera, vertices: np.ndarray | None) -> np.ndarray:
    """A picture of the mesh (ground, m) as a bright shape on dark."""
    mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    if vertices is not None:
        columns, rows = np.rint(project(camera, vertices)).astype(int).T
        seen = (columns >= 0) & (columns < SIZE[0]) & (rows >= 0) & (rows < SIZE[1])
        mask[rows[seen], columns[seen]] = 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (25, 25))
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    return np.repeat((DARK + (BRIGHT - DARK) * mask)[:, :, None].astype(np.uint8), 3, axis=2)


def shape_of(subject: int) -> list[float]:
    """Made-up shape coefficients of a subject: size, height, girth."""
    return [0.3 * np.sin(subject), 0.5 * np.cos(subject), 0.2]


def write_download(folder: Path, subjects: Sequence[int] = (1, 2, 14)) -> Path:
    """Everything that the source reads, in the folders that the archives unpack to."""
    models = {sex: folder / f"smplh/{sex}/model.npz" for sex in ("female", "male")}
    write_body_model(models["female"])
    models["male"].parent.mkdir(parents=True)
    os.link(models["female"], models["male"])
    (folder / "dmpls/male").mkdir(parents=True)
    np.savez(folder / "dmpls/male/model.npz", eigvec=np.zeros(3))
    for name, camera in cameras().items():
        write_calibration(folder / "Calib", name, camera)
    body = SMPLHBody(models["female"])
    for subject in subjects:
        write_v3d(v3d_path(folder, subject), subject, SEXES[subject], MOTIONS)
        for k, motion in enumerate(MOTIONS, start=1):
            write_amass(amass_path(folder, subject, k), motion, shape_of(subject))
        np.savez(amass_path(folder, subject, 1).parent / "female_shape.npz", betas=np.zeros(16))
        paths = {name: video_path(folder, subject, name) for name in cameras()}
        write_videos(paths, body, shape_of(subject))
    return folder


def v3d_path(folder: Path, subject: int) -> Path:
    return folder / f"V3D/F_Subjects_1_45/F_v3d_Subject_{subject}.mat"


def amass_path(folder: Path, subject: int, k: int) -> Path:
    return folder / f"BMLmovi/Subject_{subject}_F_MoSh/Subject_{subject}_F_{k}_poses.npz"


def video_path(folder: Path, subject: int, camera: str) -> Path:
    return folder / f"videos/F_{camera}_Subject_{subject}_L.avi"


def source(folder: Path, **settings: Any) -> BMLMoViSource:
    """The source on a download."""
    return BMLMoViSource(str(folder), BMLMoViSettings(**settings))


def units_of(maker: BMLMoViSource, folder: Path, subject: str) -> list[dict[str, Any]]:
    """A subject's units, static pose and videos first."""
    return [unit for unit in maker.plan(folder).units if unit["subject"] == subject]


def replace_file(path: Path, content: bytes) -> None:
    """Another content, in a copy made of hard links: the original stays."""
    path.unlink()
    path.write_bytes(content)


def shorten(path: Path, kept: int) -> None:
    """The file's first bytes alone."""
    replace_file(path, path.read_bytes()[:kept])
