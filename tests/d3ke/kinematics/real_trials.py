"""Two recorded walks that come with OpenSim, for tests and benchmarks, and OpenSim's answer.

What is made from them is kept in a cache folder: the scaled Rajagopal model (none ships with the
recording) and OpenSim's solutions, which take a minute.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from d3ke.kinematics import MarkerTrajectories, read_trc
from d3ke.kinematics.ik_opensim import solve_with_opensim
from d3ke.kinematics.ik_tasks import CoordinateTask, read_ik_setup
from d3ke.kinematics.inverse_kinematics import inverse_kinematics
from d3ke.kinematics.marker_set import add_marker
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.skeleton import Skeleton

SHARED = Path(__file__).parents[4] / "shared" / "opensim-models"
CACHE = Path(tempfile.gettempdir()) / "d3ke_real_trials"
_FILES = {
    "gait2354": ("subject01_Setup_IK.xml", "subject01_walk1.trc"),
    "rajagopal": ("ik_setup_walk.xml", "motion_capture_walk.trc"),
}
TRIALS = tuple(_FILES)


@dataclass(frozen=True, kw_only=True, eq=False)
class RealTrial:
    """A recorded walk on a model scaled to the person; ground frame, as OpenSim's."""

    name: str
    model_path: Path
    marker_names: tuple[str, ...]
    """Markers with a weight above 0, M."""
    positions: np.ndarray
    """[T, M, 3] m."""
    weights: np.ndarray
    """[M]."""
    coordinate_tasks: tuple[CoordinateTask, ...]
    times: np.ndarray
    """[T] s."""

    @cached_property
    def skeleton(self) -> Skeleton:
        """With exactly this trial's markers, in its order."""
        whole = Skeleton.from_osim(self.model_path)
        chosen = whole.index_of("marker", self.marker_names)
        bodies = [whole.bodies[body] for body in whole.marker_bodies[chosen]]
        return whole.with_markers(self.marker_names, bodies, whole.marker_locations[chosen])

    def weighted_rms(self, marker_error: np.ndarray) -> float:
        """Of marker errors [T, M] m: what the solver minimises, m."""
        return float(
            np.sqrt(np.average(np.square(marker_error), axis=1, weights=self.weights)).mean()
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenSimReference:
    """What OpenSim's solver found."""

    coordinates: np.ndarray
    """[T, Q] rad or m."""
    marker_positions: np.ndarray
    """[T, M, 3] m."""
    marker_error: np.ndarray
    """[T, M] m."""
    seconds_per_frame: float
    """Of the whole call, on one core, when it was computed."""


def is_available(name: str) -> bool:
    """Whether the recording is on this machine."""
    return (SHARED / name).is_dir()


def real_trial(name: str, frames: int | slice | None = None) -> RealTrial:
    """A trial, whole or its first `frames` (or a slice of it)."""
    setup, recording = _FILES[name]
    tasks, measured = read_ik_setup(SHARED / name / setup), read_trc(SHARED / name / recording)
    path = (
        SHARED / name / "reference_subject01_simbody.osim"
        if name == "gait2354"
        else _scaled_rajagopal()
    )
    present = {marker.getName() for marker in _markers(load_model(path))}
    names = tuple(n for n in measured.names if tasks.marker_weights.get(n) and n in present)
    window = frames if isinstance(frames, slice) else slice(frames)
    times = measured.times[window]
    return RealTrial(
        name=name,
        model_path=path,
        marker_names=names,
        positions=measured.reordered(names).positions[window],
        weights=tasks.weights(names),
        coordinate_tasks=tasks.at(times),
        times=times,
    )


def opensim_reference(trial: RealTrial, accuracy: float = 1e-5) -> OpenSimReference:
    """OpenSim's solution of a trial, computed once for each content and accuracy."""
    path = CACHE / f"{trial.name}_{_content(trial, accuracy)}.npz"
    if not path.exists():
        start = time.perf_counter()
        found = solve_with_opensim(
            trial.model_path,
            trial.marker_names,
            trial.positions,
            trial.weights,
            trial.coordinate_tasks,
            trial.times,
            accuracy=accuracy,
        )
        seconds = time.perf_counter() - start
        CACHE.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=CACHE, suffix=".npz", delete=False) as part:
            np.savez(
                part,
                coordinates=found.coordinates,
                marker_positions=found.marker_positions,
                marker_error=np.linalg.norm(found.marker_positions - trial.positions, axis=2),
                seconds_per_frame=seconds / len(trial.times),
            )
        Path(part.name).replace(path)
    with np.load(path) as stored:
        content = {key: stored[key] for key in stored.files}
    content["seconds_per_frame"] = float(content["seconds_per_frame"])
    return OpenSimReference(**content)


def _content(trial: RealTrial, accuracy: float) -> str:
    digest = hashlib.sha256(trial.model_path.read_bytes())
    for array in (trial.positions, trial.weights, trial.times):
        digest.update(np.ascontiguousarray(array).tobytes())
    tasks = [(t.name, t.weight, np.asarray(t.value).tolist()) for t in trial.coordinate_tasks]
    digest.update(repr((trial.marker_names, tasks, accuracy)).encode())
    digest.update(load_opensim().GetVersion().encode())
    return digest.hexdigest()[:16]


def _markers(model):
    return list(model.getMarkerSet())


# The Rajagopal model is scaled by one factor a body group, then its static markers are put where
# they were measured in the static pose that its bony landmarks give. Skin moves by centimetres from
# that pose (arms raised) to the walk, so markers without a landmark's meaning then move by their
# mean error in some frames of the walk.

_LANDMARKS = {
    "R.Shoulder": "RACR", "L.Shoulder": "LACR", "R.Elbow": "RLEL", "L.Elbow": "LLEL",
    "R.MElbow": "RMEL", "L.MElbow": "LMEL", "R.Wrist": "RFAradius", "L.Wrist": "LFAradius",
    "MidClavicle": "CLAV", "R.ASIS": "RASI", "L.ASIS": "LASI", "R.PSIS": "RPSI", "L.PSIS": "LPSI",
    "R.Knee": "RLFC", "L.Knee": "LLFC", "R.MKnee": "RMFC", "L.MKnee": "LMFC",
    "R.Ankle": "RLMAL", "L.Ankle": "LLMAL", "R.MAnkle": "RMMAL", "L.MAnkle": "LMMAL",
    "R.Heel": "RCAL", "L.Heel": "LCAL", "R.Toe": "RTOE", "L.Toe": "LTOE", "R.MT5": "RMT5",
    "L.MT5": "LMT5",
}  # fmt: skip
"""Measured -> the model's own marker at the same place."""
_GROUPS = {
    "pelvis": (("R.ASIS", "L.ASIS"), ("R.ASIS", "R.PSIS"), ("L.ASIS", "L.PSIS")),
    "torso": (("R.Shoulder", "L.Shoulder"), ("MidClavicle", "R.ASIS"), ("MidClavicle", "L.ASIS")),
    "femur patella": (("R.ASIS", "R.Knee"), ("L.ASIS", "L.Knee")),
    "tibia": (("R.Knee", "R.Ankle"), ("L.Knee", "L.Ankle")),
    "talus calcn toes": (("R.Heel", "R.MT5"), ("L.Heel", "L.MT5")),
    "humerus": (("R.Shoulder", "R.Elbow"), ("L.Shoulder", "L.Elbow")),
    "ulna radius hand": (("R.Elbow", "R.Wrist"), ("L.Elbow", "L.Wrist")),
}
"""Bodies (without _r, _l) -> distances that scale them."""
_SEGMENTS = {
    "torso": ("Shoulder", "Clavicle"),
    "humerus": ("Biceps", "Elbow", "MElbow"),
    "ulna": ("Forearm",),
    "radius": ("Wrist",),
    "pelvis": ("ASIS", "PSIS", "S2"),
    "femur": ("TH1", "TH2", "TH3", "TH4", "Knee", "MKnee"),
    "tibia": ("SH1", "SH2", "SH3", "SH4", "Ankle", "MAnkle"),
    "calcn": ("Heel", "MT5", "Toe"),
}
"""Body (without _r, _l) -> markers (without R., L.) it carries."""


_BONY = ("ASIS", "PSIS", "Knee", "Ankle")
"""Markers (without R., L.) that stay where the static pose has them."""
_ROUNDS = 2


def _scaled_rajagopal() -> Path:
    folder = SHARED / "rajagopal"
    generic, recording = folder / "Rajagopal2016.osim", folder / "static_walk_1.trc"
    digest = hashlib.sha256(generic.read_bytes() + recording.read_bytes())
    digest.update(Path(__file__).read_bytes())
    path = CACHE / f"rajagopal_{digest.hexdigest()[:16]}.osim"
    if not path.exists():
        whole = read_trc(recording)
        still = MarkerTrajectories(
            names=whole.names,
            positions=np.nanmean(whole.positions[:50], axis=0, keepdims=True),
            times=whole.times[:1],
            rate_hz=whole.rate_hz,
        )
        CACHE.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        model = _fitted(generic, still)
        for _ in range(_ROUNDS):
            _move_markers(model)
        model.printToXML(str(part))
        part.replace(path)
    return path


def _fitted(generic: Path, still: MarkerTrajectories):
    """The generic model scaled to the person, with all static markers on its bodies."""
    model = load_model(generic)
    scale_bodies(model, _factors(_posed(model, still), still))
    pose = _posed(model, still)
    state = model.initSystem()
    for coordinate, value in zip(model.getCoordinateSet(), pose.coordinates[0], strict=True):
        if not coordinate.getLocked(state):
            coordinate.setValue(state, float(value), False)
    model.realizePosition(state)
    ground, places = model.getGround(), {}
    for name in still.names:
        body = _body_of(name)
        if body is not None:
            point = load_opensim().Vec3(*map(float, still.marker(name)[0]))
            frame = model.getBodySet().get(body)
            places[name] = body, ground.findStationLocationInAnotherFrame(state, point, frame)
    model.updMarkerSet().clearAndDestroy()
    for name, (body, place) in places.items():
        add_marker(model, name, body, place.to_numpy(), fixed=True)
    model.finalizeConnections()
    return model


def _move_markers(model) -> None:
    """By their mean error, in their bodies' frames, in every tenth frame of the walk."""
    setup, recording = _FILES["rajagopal"]
    tasks, walk = (
        read_ik_setup(SHARED / "rajagopal" / setup),
        read_trc(SHARED / "rajagopal" / recording),
    )
    names = [name for name in walk.names if tasks.marker_weights.get(name)]
    chosen = walk.reordered(names)
    some = MarkerTrajectories(
        names=chosen.names,
        positions=chosen.positions[::10],
        times=chosen.times[::10],
        rate_hz=walk.rate_hz / 10,
    )
    found = _solved(model, some, tasks.weights(names))
    state, moves = model.initSystem(), {name: [] for name in names if name[2:] not in _BONY}
    for row, measured in zip(found.coordinates, some.positions, strict=True):
        for coordinate, value in zip(model.getCoordinateSet(), row, strict=True):
            if not coordinate.getLocked(state):
                coordinate.setValue(state, float(value), False)
        model.realizePosition(state)
        for name in moves:
            frame = model.getMarkerSet().get(name).getParentFrame()
            point = load_opensim().Vec3(*map(float, measured[names.index(name)]))
            place = model.getGround().findStationLocationInAnotherFrame(state, point, frame)
            moves[name].append(place.to_numpy())
    for name, places in moves.items():
        place = load_opensim().Vec3(*map(float, np.mean(places, axis=0)))
        model.getMarkerSet().get(name).set_location(place)
    model.finalizeConnections()


def _posed(model, still: MarkerTrajectories):
    """The static pose by the bony landmarks."""
    names = tuple(_LANDMARKS.values())
    positions = np.stack([still.marker(name) for name in _LANDMARKS], axis=1)
    landmarks = MarkerTrajectories(
        names=names, positions=positions, times=still.times, rate_hz=still.rate_hz
    )
    return _solved(model, landmarks, np.ones(len(names)))


def _solved(model, trajectories: MarkerTrajectories, weights: np.ndarray):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.osim"
        model.printToXML(str(path))
        return inverse_kinematics(
            model_path=path,
            trajectories=trajectories,
            weights=dict(zip(trajectories.names, map(float, weights), strict=True)),
            regularization=1e-9,
        )


def _factors(pose, still: MarkerTrajectories) -> dict[str, float]:
    """Mean of measured over model distance, in the pose, for each body group."""
    model = dict(zip(_LANDMARKS, pose.marker_positions[0], strict=True))
    return {
        bodies: float(
            np.mean(
                [
                    np.linalg.norm(still.marker(a)[0] - still.marker(b)[0])
                    / np.linalg.norm(model[a] - model[b])
                    for a, b in pairs
                ]
            )
        )
        for bodies, pairs in _GROUPS.items()
    }


def scale_bodies(model, factors: Mapping[str, float]) -> None:
    """Scales the bodies of each group, "femur patella", on both sides by its factor."""
    opensim = load_opensim()
    scales = opensim.ScaleSet()
    for body in model.getBodySet():
        (factor,) = (f for group, f in factors.items() if _stem(body.getName()) in group.split())
        scale = opensim.Scale()
        scale.setSegmentName(body.getName())
        scale.setScaleFactors(opensim.Vec3(factor))
        scale.setApply(True)
        scales.cloneAndAppend(scale)
    model.scale(model.initSystem(), scales, False, -1.0)


def _stem(body: str) -> str:
    return body.removesuffix("_r").removesuffix("_l")


def _body_of(marker: str) -> str | None:
    """The body that carries a marker; None for computed points."""
    side, _, plain = marker.partition(".")
    for body, carried in _SEGMENTS.items():
        if (plain or side) in carried:
            return body if body in ("torso", "pelvis") else f"{body}_{side.lower()}"
    return None
