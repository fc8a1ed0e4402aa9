"""A made-up body in the file format of the extended SMPL-H model.

It is no SMPL body and holds nothing of one: closed tubes around the bones of the project's own
OpenSim model in its T-pose. What the vertex table of the markers needs is there: the vertices of
the right numbers lie exactly where the marker set has its markers on that model, and move with the
right joint, so that scaling and inverse kinematics meet a body they can fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from d3ke.kinematics import MarkerSet
from d3ke.skeleton import SkeletalModelLayer, Skeleton
from d3ke_platform.sources.smplh_markers import marker_table

VERTICES, JOINTS, BETAS = 6890, 52, 16
SMPL_FROM_GROUND = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
PARENTS = [
    *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19),
    *(20, 22, 23, 20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35),
    *(21, 37, 38, 21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50),
]
_JOINT_OF_BODY = {
    "pelvis": 0,
    **{f"femur_{s}": j for s, j in (("l", 1), ("r", 2))},
    **{f"tibia_{s}": j for s, j in (("l", 4), ("r", 5))},
    **{f"{b}_{s}": j for b in ("talus", "calcn") for s, j in (("l", 7), ("r", 8))},
    **{f"toes_{s}": j for s, j in (("l", 10), ("r", 11))},
    **{f"lumbar{n}": 3 for n in range(1, 6)},
    **{f"thoracic{n}": 6 for n in (11, 12)},
    **{f"thoracic{n}": 9 for n in range(1, 11)},
    "thorax": 9,
    "head_neck": 12,
    "skull": 15,
    **{f"{b}{s}": j for b in ("clavicle", "scapula") for s, j in (("_l", 13), ("", 14))},
    **{f"humerus{s}": j for s, j in (("_l", 16), ("", 17))},
    **{f"{b}{s}": j for b in ("ulna", "radius") for s, j in (("_l", 18), ("", 19))},
}
"""Body of the OpenSim model -> SMPL-H joint that moves it."""
_RADII_M = {0: 0.15, 1: 0.085, 2: 0.085, 4: 0.055, 5: 0.055, 7: 0.04, 8: 0.04, 10: 0.035, 11: 0.035}
_RADII_M |= {3: 0.14, 6: 0.14, 9: 0.13, 12: 0.06, 13: 0.05, 14: 0.05, 15: 0.09, 16: 0.045}
_RADII_M |= {17: 0.045, 18: 0.037, 19: 0.037, 20: 0.03, 21: 0.03}
_AROUND = 16


@dataclass(frozen=True, eq=False)
class MadeUpBody:
    """Rest pose in SMPL axes (x left, y up, z forward), m."""

    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    joints: np.ndarray
    regressor: np.ndarray


@cache
def made_up_body() -> MadeUpBody:
    """The body of the average shape."""
    markers = _markers_of_the_model()
    joints = np.array([markers[name] for name in marker_table().joints])
    vertices, faces, owners = _tubes(joints)
    places = marker_table().vertices
    order = _renumbering(vertices, {places[name]: markers[name] for name in places})
    vertices, owners = vertices[order], owners[order]
    rank = np.argsort(order)
    weights = np.zeros((VERTICES, JOINTS))
    weights[np.arange(VERTICES), owners] = 1.0
    for name, vertex in places.items():
        vertices[vertex] = markers[name]
        weights[vertex] = np.eye(JOINTS)[_joint_of_marker(name)]
    return MadeUpBody(vertices, rank[faces], weights, joints, _regressor(vertices, joints))


def write_body_model(path: Path, *, pose_blend: float = 0.0) -> None:
    """A model file with every array of the format; `pose_blend` is the size of pose corrections."""
    body = made_up_body()
    rng = np.random.default_rng(5)
    posedirs = np.zeros((VERTICES, 3, 9 * (JOINTS - 1)), np.float32)
    posedirs[:, :, :18] = pose_blend * rng.normal(size=(VERTICES, 3, 18))
    parents = np.array(PARENTS, np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        v_template=body.vertices,
        f=body.faces.astype(np.uint32),
        weights=body.weights,
        shapedirs=_shape_directions(body.vertices),
        posedirs=posedirs,
        J_regressor=body.regressor,
        J=body.joints,
        kintree_table=np.array([parents, np.arange(JOINTS)]),
        hands_meanl=np.full(45, 0.3),
        hands_meanr=np.full(45, 0.3),
        bs_style="lbs",
        bs_type="lrotmin",
    )


def _shape_directions(vertices: np.ndarray) -> np.ndarray:
    """Coefficient 0: size, 5 % each; 1: height, 5 %; 2: girth, 5 %; the others do nothing."""
    directions = np.zeros((VERTICES, 3, BETAS), np.float32)
    directions[:, :, 0] = 0.05 * vertices
    directions[:, 1, 1] = 0.05 * vertices[:, 1]
    directions[:, 2, 2] = 0.05 * vertices[:, 2]
    return directions


def _markers_of_the_model() -> dict[str, np.ndarray]:
    """All markers of the table on the OpenSim model in its default pose, in SMPL axes."""
    import torch

    skeleton, markers = Skeleton.full_body(), MarkerSet.builtin("smplh")
    pose = SkeletalModelLayer(skeleton)(torch.tensor(skeleton.coordinate_defaults)[None].double())
    rotations, positions = pose.body_rotations[0].numpy(), pose.body_positions[0].numpy()
    at = {}
    for name, body, place in zip(markers.names, markers.bodies, markers.locations, strict=True):
        index = skeleton.bodies.index(body)
        at[name] = SMPL_FROM_GROUND @ (rotations[index] @ place + positions[index])
    _add_spine(at)
    _add_hands(at)
    return at


def _add_spine(at: dict[str, np.ndarray]) -> None:
    """Tracking markers down the back, between those that the marker set has."""
    low, high = at["MPSI"], at["T12"]
    for step, name in enumerate(("L5", "L4", "L3", "L2", "L1"), start=1):
        at[f"Tracking_{name}"] = low + step / 6 * (high - low)
    for name, (first, second, share) in {
        "T11": ("T12", "T10", 0.5),
        "T9": ("T10", "T8", 0.5),
        **{f"T{n}": ("T8", "T1", (8 - n) / 7) for n in range(2, 8)},
    }.items():
        at[f"Tracking_{name}"] = at[first] + share * (at[second] - at[first])


def _add_hands(at: dict[str, np.ndarray]) -> None:
    """Straight fingers, three joints and a tip each."""
    spread = {"index": 0.03, "middle": 0.01, "ring": -0.01, "pinky": -0.03, "thumb": 0.05}
    for side, letter, sign in (("left", "l", 1.0), ("right", "r", -1.0)):
        wrist = at[f"{letter.upper()}WRIST"]
        for finger, forward in spread.items():
            start = 0.04 if finger == "thumb" else 0.09
            for phalanx in range(4):
                out = start + 0.03 * phalanx
                name = f"{side}_{finger}{phalanx + 1}" if phalanx < 3 else f"{letter}{finger}"
                at[name] = wrist + np.array([sign * out, 0.0, forward])


def _joint_of_marker(name: str) -> int:
    markers = MarkerSet.builtin("smplh")
    if name in markers.names:
        return _JOINT_OF_BODY[markers.body_after_scaling(name)]
    if name.startswith("Tracking_L"):
        return 3
    if name.startswith("Tracking_"):
        return 6 if name == "Tracking_T11" else 9
    side, finger = ("left", "right")[name[0] == "r"], name[1:]
    return marker_table().joints.index(f"{side}_{finger}3")


def _tubes(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Closed tubes around the bones, VERTICES vertices in all; faces; joint that moves a vertex."""
    ends = {j: joints[[c for c, p in enumerate(PARENTS) if p == j]].mean(axis=0) for j in PARENTS}
    bones = [(j, joints[j], end) for j, end in ends.items() if j >= 0]
    bones += [(15, joints[15], joints[15] + [0.0, 0.16, 0.0])]
    bones += [(j, joints[j], joints[j] + [0.0, 0.0, 0.07]) for j in (10, 11)]
    tips = [j for j in range(22, JOINTS) if j not in PARENTS]
    bones += [(j, joints[j], joints[j] + 0.03 * np.sign([joints[j][0], 0, 0])) for j in tips]
    spare = VERTICES - 2 * len(bones)
    rings = np.full(len(bones), spare // (_AROUND * len(bones)))
    rings[: (spare - _AROUND * rings.sum()) // _AROUND] += 1
    vertices, faces, owners = [], [], []
    for (joint, start, end), count in zip(bones, rings, strict=True):
        points, triangles = _tube(start, end, _RADII_M.get(joint, 0.009), count)
        faces.append(triangles + sum(map(len, vertices)))
        vertices.append(points)
        owners += [joint] * len(points)
    all_vertices, all_faces = np.concatenate(vertices), np.concatenate(faces)
    extra = VERTICES - len(all_vertices)
    # The few vertices left over belong to no face.
    all_vertices = np.concatenate([all_vertices, np.repeat(all_vertices[:1], extra, axis=0)])
    return all_vertices, all_faces, np.array(owners + [owners[0]] * extra)


def _tube(
    start: np.ndarray, end: np.ndarray, radius: float, rings: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points and outward triangles of a closed tube: two ends and rings between."""
    along = (end - start) / np.linalg.norm(end - start)
    across = np.cross(along, [0.3, 0.2, 1.0])
    across /= np.linalg.norm(across)
    third = np.cross(along, across)
    angles = 2 * np.pi * np.arange(_AROUND) / _AROUND
    circle = radius * (np.outer(np.cos(angles), across) + np.outer(np.sin(angles), third))
    centers = start + np.outer(np.linspace(0.02, 0.98, rings), end - start)
    points = np.concatenate([[start], (centers[:, None] + circle).reshape(-1, 3), [end]])
    at = 1 + np.arange(rings * _AROUND).reshape(rings, _AROUND)
    after = np.roll(at, -1, axis=1)
    last = len(points) - 1
    triangles = [
        np.stack([np.zeros(_AROUND, int), after[0], at[0]], axis=1),
        np.stack([at[:-1].ravel(), after[:-1].ravel(), at[1:].ravel()], axis=1),
        np.stack([after[:-1].ravel(), after[1:].ravel(), at[1:].ravel()], axis=1),
        np.stack([np.full(_AROUND, last), at[-1], after[-1]], axis=1),
    ]
    return points, np.concatenate(triangles)


def _renumbering(vertices: np.ndarray, places: dict[int, np.ndarray]) -> np.ndarray:
    """New number -> old one, such that a vertex near each place has that place's number."""
    free = np.ones(len(vertices), bool)
    order = np.full(len(vertices), -1)
    for number, place in places.items():
        distance = np.where(free, np.linalg.norm(vertices - place, axis=1), np.inf)
        order[number] = np.argmin(distance)
        free[order[number]] = False
    order[order < 0] = np.flatnonzero(free)
    return order


def _regressor(vertices: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """[J, V] weights that add up to 1 and give the joints exactly."""
    regressor = np.zeros((JOINTS, VERTICES))
    for joint, place in enumerate(joints):
        near = np.argsort(np.linalg.norm(vertices - place, axis=1))[:80]
        system = np.vstack([vertices[near].T, np.ones(80)])
        regressor[joint, near] = np.linalg.lstsq(system, [*place, 1.0], rcond=None)[0]
    return regressor
