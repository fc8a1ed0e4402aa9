"""The Anny body mesh, moved by rotations of its segments about anatomical joint centres.

Everything public is in the ground frame (x forward, y up, z right; metres). Anny itself is z-up and
faces -y.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any, Literal

import numpy as np

from d3ke.arrays import FloatArray, IntArray
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.sources.anny_joints import joint_pivots, neutral_rotations
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.anny_segments import SEGMENTS, bone_rotations
from d3ke_platform.sources.skin_map import SkinMap

Grounding = Literal["trial", "frame", "none"]

_GROUND_FROM_ANNY = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
_BODY_DENSITY = 1008.5
"""kg/m^3, the reference's: 78.1165 kg over 0.0774582 m^3 (facts 3.4)."""
_SKINNING_BATCH = 16
"""Frames a batch: keeps the blended transforms of all vertices near 10 MB."""


@dataclass(frozen=True, eq=False)
class RestBody:
    """One body shape in Anny's rest pose (arms 48 degrees down), ground axes, pelvis at 0."""

    vertices: FloatArray
    """[V, 3] m."""
    heads: FloatArray
    """[104, 3] m, where each bone starts."""
    pivots: FloatArray
    """[104, 3] m, the point each bone turns about."""
    neutral: dict[str, FloatArray]
    """Segment -> [3, 3], from the rest pose to standing with straight limbs, arms down."""


@dataclass(frozen=True, eq=False)
class BodyMotion:
    """A moving body in the ground frame."""

    vertices: FloatArray
    """[T, V, 3] m, float32."""
    joints: dict[str, FloatArray]
    """Bone -> its joint centre [T, 3] m, float64."""

    def every(self, step: int) -> BodyMotion:
        """The first of every `step` time steps."""
        joints = {bone: at[::step] for bone, at in self.joints.items()}
        return BodyMotion(self.vertices[::step], joints)

    def raised(self, height: FloatArray) -> BodyMotion:
        """The body so much higher, [T] m."""
        up = height[:, None] * [0.0, 1.0, 0.0]
        joints: dict[str, FloatArray] = {bone: at + up for bone, at in self.joints.items()}
        return BodyMotion(self.vertices + up[:, None].astype(np.float32), joints)


class AnnyBody:
    """Anny's mesh with its skeleton driven in the ground frame.

    Deterministic and single threaded. One object serves any number of phenotypes; the rest shapes
    of the last eight are kept.
    """

    def __init__(self) -> None:
        import anny
        import torch

        self._anny = anny.Anny(skinning_method="lbs").to(torch.float32)
        self.bones: tuple[str, ...] = tuple(self._anny.bone_labels)
        self.parents: tuple[int, ...] = tuple(int(p) for p in self._anny.bone_parents)
        self.faces: IntArray = self._anny.faces.numpy().astype(np.int64)
        self._weights = self._skinning_weights()
        self.dominant_bones: tuple[str, ...] = self._dominant_bones()
        self.landmarks = load_landmarks()
        self.rest = lru_cache(maxsize=8)(self._rest)

    def _skinning_weights(self) -> Any:
        from scipy.sparse import csr_matrix

        weights = self._anny.vertex_bone_weights.numpy()
        columns = self._anny.vertex_bone_indices.numpy()
        rows = np.repeat(np.arange(len(weights)), weights.shape[1])
        shape = (len(weights), len(self.bones))
        return csr_matrix((weights.ravel(), (rows, columns.ravel())), shape, dtype=np.float32)

    def _dominant_bones(self) -> tuple[str, ...]:
        indices = np.asarray(self._weights.argmax(axis=1)).ravel()
        return tuple(self.bones[index] for index in indices)

    @cached_property
    def skin_map(self) -> SkinMap:
        """The unwrapped mesh."""
        return SkinMap.of_mesh(
            self.faces,
            self._anny.face_texture_coordinate_indices.numpy().astype(np.int64),
            self._anny.texture_coordinates.numpy().astype(float),
        )

    def _rest(self, phenotype: Phenotype) -> RestBody:
        """The body shape of a phenotype."""
        import torch

        shape = {key: torch.tensor([value]) for key, value in asdict(phenotype).items()}
        with torch.inference_mode():
            rest = self._anny(phenotype_kwargs=shape)
        axes = _GROUND_FROM_ANNY.T
        vertices = rest["rest_vertices"][0].numpy().astype(float) @ axes
        heads = rest["rest_bone_heads"][0].numpy().astype(float) @ axes
        pivots = joint_pivots(self.bones, heads, vertices, self.landmarks.vertices)
        return RestBody(vertices, heads, pivots, neutral_rotations(self.bones, pivots))

    def pose(
        self,
        phenotype: Phenotype,
        segment_rotations: dict[str, FloatArray],
        root_position: FloatArray,
        *,
        grounding: Grounding = "trial",
        clearance: FloatArray | None = None,
    ) -> BodyMotion:
        """Moves the body.

        Args:
            phenotype: the body shape.
            segment_rotations: segment -> [T, 3, 3], relative to its parent segment, in axes that
                are the ground's when the body stands upright facing x with its arms down (the
                neutral pose, all identities). Segments left out stay neutral. Names: SEGMENTS.
            root_position: [T, 3] m, the pelvis. With a grounding its height only matters
                relative to other frames.
            grounding: where the floor (y = 0) is. `trial`: one shift for all frames, so that the
                lowest vertex of most frames stands on it (jumps stay jumps); `frame`: every
                frame stands on it; `none`: as `root_position` says.
            clearance: [T] m, height above that floor, for jumps grounded frame by frame.

        Raises:
            UnknownNameError: a segment that does not exist.
        """
        rest = self.rest(phenotype)
        frames = len(root_position)
        _check_rotations(segment_rotations, frames)
        rotations = bone_rotations(self.bones, rest.neutral, segment_rotations, frames)
        offsets = self._bone_offsets(rest.pivots, rotations, root_position)
        vertices = self._skin(rest.vertices, rotations, offsets)
        joints = np.einsum("tbij,bj->tbi", rotations, rest.pivots) + offsets
        shift = _floor_height(vertices, grounding)
        shift = shift if clearance is None else shift - clearance
        vertices[..., 1] -= shift[:, None]
        joints[..., 1] -= shift[:, None]
        return BodyMotion(vertices, {name: joints[:, i] for i, name in enumerate(self.bones)})

    def _bone_offsets(
        self, pivots: FloatArray, rotations: FloatArray, root_position: FloatArray
    ) -> FloatArray:
        """Offset o of each bone's map x -> R x + o from the rest pose, [T, 104, 3] m."""
        offsets = np.zeros(rotations.shape[:3])
        for bone, parent in enumerate(self.parents):
            at_rest, rotation = pivots[bone], rotations[:, bone]
            if parent < 0:
                joint = root_position + at_rest
            else:
                joint = rotations[:, parent] @ at_rest + offsets[:, parent]
            offsets[:, bone] = joint - rotation @ at_rest
        return offsets

    def _skin(self, vertices: FloatArray, rotations: FloatArray, offsets: FloatArray) -> FloatArray:
        """Linear blend skinning, [T, V, 3] float32."""
        moves = np.concatenate([rotations, offsets[..., None]], axis=-1).astype(np.float32)
        rest = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1).astype(np.float32)
        out = np.empty((len(moves), len(vertices), 3), dtype=np.float32)
        for start in range(0, len(moves), _SKINNING_BATCH):
            batch = moves[start : start + _SKINNING_BATCH]
            columns = batch.transpose(1, 0, 2, 3).reshape(len(self.bones), -1)
            blended = (self._weights @ columns).reshape(len(vertices), len(batch), 3, 4)
            out[start : start + len(batch)] = np.einsum("vtij,vj->tvi", blended, rest)
        return out

    def height(self, phenotype: Phenotype) -> float:
        """Standing height, m."""
        return float(np.ptp(self.rest(phenotype).vertices[:, 1]))

    def mass(self, phenotype: Phenotype) -> float:
        """Mass of the mesh's volume at the density of a body, kg."""
        corners = self.rest(phenotype).vertices[self.faces]
        signed = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
        return float(abs(signed.sum()) / 6.0 * _BODY_DENSITY)


@dataclass(frozen=True)
class Landmarks:
    """Where the virtual markers are on the mesh."""

    vertices: dict[str, int]
    """Marker -> vertex."""
    bones: dict[str, tuple[str, ...]]
    """Marker -> bones whose joint centres it is the mean of."""


def load_landmarks() -> Landmarks:
    """The 43 surface and 22 joint markers of the reference's set, found on Anny's mesh."""
    file = resources.files("d3ke_platform.sources") / "anny_landmarks.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return Landmarks(
        content["vertices"], {name: tuple(bones) for name, bones in content["bones"].items()}
    )


def t_pose_rotations(frames: int) -> dict[str, FloatArray]:
    """Segment rotations of the pose of scaling: arms straight out to the sides, palms down."""
    from scipy.spatial.transform import Rotation

    right = Rotation.from_euler("x", -90.0, degrees=True).as_matrix()
    return {
        "shoulder_r": np.tile(right, (frames, 1, 1)),
        "shoulder_l": np.tile(right.T, (frames, 1, 1)),
    }


def sample_phenotype(rng: np.random.Generator, body: AnnyBody | None = None) -> Phenotype:
    """A random adult, 1.50 to 1.96 m tall.

    Args:
        rng: the source of randomness.
        body: measures the height; made anew (half a second) if left out.
    """
    body = body or AnnyBody()
    while True:
        phenotype = Phenotype(
            gender=float(rng.choice([0.0, 1.0]) * 0.8 + rng.uniform(0.0, 0.2)),
            age=float(rng.uniform(0.5, 0.85)),
            muscle=float(rng.uniform(0.3, 0.8)),
            weight=float(rng.uniform(0.25, 0.75)),
            height=float(rng.uniform(0.0, 0.6)),
            proportions=float(rng.uniform(0.3, 0.8)),
        )
        if 1.50 <= body.height(phenotype) <= 1.96:
            return phenotype


def _check_rotations(segment_rotations: dict[str, FloatArray], frames: int) -> None:
    for name, rotation in segment_rotations.items():
        if name not in SEGMENTS:
            raise UnknownNameError("segment", name, SEGMENTS)
        if rotation.shape != (frames, 3, 3):
            raise InvalidInputError(
                f"rotations of segment {name!r}", f"shape {rotation.shape}, not ({frames}, 3, 3)"
            )


def _floor_height(vertices: FloatArray, grounding: Grounding) -> FloatArray:
    """[T] m. The 5th percentile over a trial ignores a foot that dips for a few frames."""
    lowest = vertices[..., 1].min(axis=1).astype(float)
    if grounding == "frame":
        return lowest
    height = np.percentile(lowest, 5.0) if grounding == "trial" else 0.0
    return np.full(len(lowest), height)
