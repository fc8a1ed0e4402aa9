"""Recordings by several calibrated cameras: a laboratory without mocap makes its own labels.

Work is done in phases: keypoints of every view, the ground of every calibration, triangulation of
every trial, the static pose of every subject, a section of the quality page. What they hand on
lies in the data set's folder `views`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.sources import MadeUnit, SourcePlan
from d3ke_platform.sources.multicamera_layout import find_trials
from d3ke_platform.sources.multicamera_settings import MultiCameraSettings
from d3ke_platform.sources.multicamera_units import TrialUnits, report_unit, static_unit
from d3ke_platform.sources.subject_table import SubjectFacts, assign_splits, read_subjects
from d3ke_platform.stages.detect import choose_detector

if TYPE_CHECKING:
    from d3ke.kinematics import MarkerSet
    from d3ke_platform.sources.multicamera_making import MultiCameraMaker


class MultiCameraSource:
    """Source of multi-camera recordings. Picklable: what makes units is loaded when needed."""

    name = "multicamera"

    def __init__(self, settings: MultiCameraSettings, *, folder: str, pose_model: str = "") -> None:
        """Takes the input folder and MediaPipe's pose landmarker file (else D3KE_POSE_MODEL).

        Raises InvalidInputError when there is no such file.
        """
        self.settings = settings
        self.input = Path(folder)
        self._task_file = choose_detector("mediapipe", pose_model=pose_model).model

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k in ("settings", "input", "_task_file")}

    def plan(self, folder: Path) -> SourcePlan:
        """Subjects, and units for every view, calibration, trial and static pose.

        Writes the built-in model, as keypoints can drive it, to `model.osim` in `folder`.
        """
        trials = find_trials(self.input)
        subjects = sorted({trial.subject for trial in trials})
        facts = read_subjects(self.input, subjects)
        splits = assign_splits(
            facts,
            validation=self.settings.validation_subjects,
            test=self.settings.test_subjects,
        )
        units = TrialUnits(self.input, splits)
        for trial in trials:
            units.add(trial)
        statics = [
            static_unit(subject, facts[subject].static or self.settings.static, trials)
            for subject in subjects
        ]
        return SourcePlan(
            **self._definitions(folder),
            subjects=[self._subject_row(facts[subject], splits[subject]) for subject in subjects],
            units=[*units.all(), *statics, report_unit(trials)],
        )

    def make(self, unit: Mapping[str, Any], folder: Path) -> MadeUnit:
        """One unit; raises InvalidInputError when its recordings cannot be used."""
        if unit.get("problem"):
            raise InvalidInputError(f"trial {unit['trial_id']}", unit["problem"].rstrip("."))
        return self._maker.make(unit, Path(folder))

    @cached_property
    def _maker(self) -> MultiCameraMaker:
        from d3ke_platform.sources.multicamera_making import MultiCameraMaker

        return MultiCameraMaker(self.settings, self._task_file)

    def _definitions(self, folder: Path) -> dict[str, Any]:
        """Model, marker set, measurements, predicted set and scaling of the plan."""
        from d3ke.kinematics import MarkerSet, ScalingSettings
        from d3ke.skeleton import MeasurementSet, PredictedSet
        from d3ke_platform.sources import keypoint_model

        own = self.settings
        if own.model:
            markers = MarkerSet.load(own.marker_set)
            _check_landmarks(markers)
            return {
                "model_osim": Path(own.model),
                "marker_set": markers,
                "measurements": MeasurementSet.load(own.measurements),
                "predicted": PredictedSet.load(own.predicted),
                "scaling": ScalingSettings.load(own.scaling) if own.scaling else None,
            }
        markers = MarkerSet.builtin("mediapipe")
        model = Path(folder) / "model.osim"
        keypoint_model.write_keypoint_model(model, markers)
        return {
            "model_osim": model,
            "marker_set": markers,
            "measurements": keypoint_model.measurements(),
            "predicted": keypoint_model.predicted_set(markers),
            "scaling": keypoint_model.scaling_settings(),
        }

    def _subject_row(self, facts: SubjectFacts, split: str) -> dict[str, Any]:
        return {
            "subject": facts.subject,
            "split": split,
            "sex": facts.sex,
            "height_m": facts.height_m,
            "mass_kg": facts.mass_kg if np.isfinite(facts.mass_kg) else self.settings.mass_kg,
            "static_uri": f"subjects/{facts.subject}_static.trc",
            "scale_setup_uri": "",
            "scaled_model_uri": "",
        }


def _check_landmarks(markers: MarkerSet) -> None:
    from d3ke_platform.sources.landmarks import LANDMARKS

    for name in markers.names:
        if name not in LANDMARKS and name not in markers.midpoints:
            raise UnknownNameError("landmark in the marker set", name, LANDMARKS)
