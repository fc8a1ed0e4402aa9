"""The SMPL-H body model: shape and pose to mesh vertices and joints.

A body model file is the user's own licensed download (the extended SMPL+H model, 16 shape
coefficients). The forward pass (Loper et al. 2015, Romero et al. 2017: shape and pose blend shapes,
joint regressor, forward kinematics, linear blend skinning) is the body-models package's.
Poses are absolute: no mean hand pose is added, as in AMASS. Soft-tissue coefficients (DMPL) are 0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from d3ke.errors import InvalidInputError
from d3ke_platform.sources.npz_files import npz_shapes, read_npz

VERTICES, JOINTS, BETAS = 6890, 52, 16
POSE_SIZE = 3 * JOINTS
_BODY_JOINTS = 21
_SHAPES: dict[str, tuple[int | None, ...]] = {
    "v_template": (VERTICES, 3),
    "f": (None, 3),
    "weights": (VERTICES, JOINTS),
    "shapedirs": (VERTICES, 3, BETAS),
    "posedirs": (VERTICES, 3, 9 * (JOINTS - 1)),
    "J_regressor": (JOINTS, VERTICES),
    "kintree_table": (2, JOINTS),
}
_FRAMES_AT_ONCE = 128
"""Frames a batch: keeps the pose blend shapes of the whole mesh near 10 MB."""


@dataclass(frozen=True, eq=False)
class MeshPose:
    """A posed body: metres, in the axes that pose and translation are given in."""

    vertices: Float[np.ndarray, "T V 3"]
    """The chosen vertices, m."""
    joints: Float[np.ndarray, "T 52 3"]
    """Joint centres, m."""


def check_body_model(path: str | Path) -> None:
    """Quick check that a file is an extended SMPL-H model. Raises InvalidInputError."""
    shapes = npz_shapes(path, tuple(_SHAPES))
    for name, expected in _SHAPES.items():
        found = shapes[name]
        if len(found) != len(expected) or any(
            size not in (None, there) for size, there in zip(expected, found, strict=True)
        ):
            wanted = "x".join("n" if size is None else str(size) for size in expected)
            raise InvalidInputError(
                str(path),
                f"{name} has shape {'x'.join(map(str, found))}, not {wanted}",
                "It must be the extended SMPL+H model (the one AMASS uses).",
            )


class SMPLHBody:
    """One body model file, in memory. SMPL axes in its zero pose: x left, y up, z forward."""

    def __init__(self, path: str | Path) -> None:
        """Raises InvalidInputError when the file is no extended SMPL-H model."""
        check_body_model(path)
        from body_models.smplh.numpy import SMPLH

        arrays = read_npz(path, tuple(_SHAPES))
        # The package unpickles whatever else a file holds (old ones hold objects of other
        # packages): it gets a file of the plain arrays only.
        with tempfile.TemporaryDirectory(prefix="d3ke_smplh_") as folder:
            plain = Path(folder) / "model.npz"
            np.savez(plain, **arrays)  # type: ignore[arg-type]  # its stub takes them for flags
            self._model = SMPLH(model_path=plain, flat_hand_mean=True)
        self.faces: Int[np.ndarray, "F 3"] = np.asarray(self._model.faces)

    def at_rest(self, betas: Float[np.ndarray, "16"]) -> MeshPose:
        """The zero pose (T-pose) of a body shape, one frame."""
        return self.pose(np.zeros((1, POSE_SIZE)), betas, np.zeros((1, 3)))

    def pose(
        self,
        poses: Float[np.ndarray, "T 156"],
        betas: Float[np.ndarray, "16"],
        translation: Float[np.ndarray, "T 3"],
        vertices: Sequence[int] | None = None,
    ) -> MeshPose:
        """The body in every frame.

        Args:
            poses: rad, rotation vectors of the 52 joints, each relative to its parent; the first
                turns the whole body.
            betas: shape coefficients.
            translation: m, added after posing.
            vertices: which vertices; None = all.
        """
        identity = self._model.prepare_identity(betas.astype(np.float32))
        parts = [
            self._batch(poses[first : first + _FRAMES_AT_ONCE], identity, vertices)
            for first in range(0, len(poses), _FRAMES_AT_ONCE)
        ]
        moved = translation[:, None].astype(float)
        return MeshPose(
            np.concatenate([part[0] for part in parts]) + moved,
            np.concatenate([part[1] for part in parts]) + moved,
        )

    def _batch(
        self, poses: np.ndarray, identity: object, vertices: Sequence[int] | None
    ) -> tuple[np.ndarray, np.ndarray]:
        turns = poses.astype(np.float32).reshape(len(poses), JOINTS, 3)
        arguments = {
            "body_pose": turns[:, 1 : 1 + _BODY_JOINTS],
            "hand_pose": turns[:, 1 + _BODY_JOINTS :],
            "pelvis_rotation": turns[:, 0],
            "identity": identity,
        }
        mesh = self._model.forward_vertices(**arguments, vertex_indices=vertices)
        skeleton = self._model.forward_skeleton(**arguments)
        return np.asarray(mesh, float), np.asarray(skeleton[..., :3, 3], float)


def mesh_volume(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> float:
    """Volume of a closed mesh, m^3: the signed tetrahedra between the origin and its faces."""
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", first, np.cross(second, third)) / 6.0)
