"""One scaled subject for all tests of kinematics, made from the model itself: exact answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from d3ke.arrays import FloatArray
from d3ke.kinematics import MarkerSet, MarkerTrajectories
from d3ke.kinematics.scaling import ScaledSubject, scale_subject
from d3ke.skeleton import MeasurementSet, SkeletalModelLayer, Skeleton, full_body_model_path


@dataclass(frozen=True)
class ModelPerson:
    """A person whose body is the built-in model scaled by known factors."""

    skeleton: Skeleton
    marker_set: MarkerSet
    measurements: MeasurementSet
    scales: FloatArray

    def markers(self, coordinates: FloatArray, rate_hz: float = 10.0) -> MarkerTrajectories:
        """Exact markers at coordinates [T, Q]."""
        pose = SkeletalModelLayer(self.skeleton)(
            torch.from_numpy(coordinates), torch.from_numpy(self.scales)
        )
        return MarkerTrajectories(
            names=self.skeleton.markers,
            positions=pose.markers.numpy(),
            times=np.arange(len(coordinates)) / rate_hz,
            rate_hz=rate_hz,
        )

    def static(self) -> MarkerTrajectories:
        """In the default pose, somewhere else and turned."""
        pose = np.tile(self.skeleton.coordinate_defaults, (7, 1))
        for name, value in zip(
            self.skeleton.root_coordinates, (0, 0, 2.0, 1.0, 0.9, -2.0), strict=True
        ):
            pose[:, self.skeleton.index_of("coordinate", name)] = value
        return self.markers(pose)


@pytest.fixture(scope="session")
def person() -> ModelPerson:
    markers, measurements = MarkerSet.builtin("smplh"), MeasurementSet.full_body()
    skeleton = Skeleton.full_body().with_markers(markers.names, markers.bodies, markers.locations)
    # One factor for all: then every distance scales by it, whichever bodies it spans.
    factors = torch.full((len(measurements.names),), 1.1, dtype=torch.float64)
    scales = measurements.body_scales(factors, skeleton).numpy()
    return ModelPerson(skeleton, markers, measurements, scales)


@pytest.fixture(scope="session")
def scaled(person: ModelPerson, tmp_path_factory: pytest.TempPathFactory) -> ScaledSubject:
    folder: Path = tmp_path_factory.mktemp("scaled")
    return scale_subject(
        model_path=full_body_model_path(),
        marker_set=person.marker_set,
        measurements=person.measurements,
        static=person.static(),
        mass_kg=70.0,
        output_path=folder / "subject.osim",
    )
