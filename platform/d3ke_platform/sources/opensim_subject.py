"""Which of a subject's files is what: model, setups, static trial, trials, videos."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from d3ke.errors import InvalidInputError
from d3ke.kinematics import IKTasks, read_ik_setup
from d3ke.kinematics.scale_setup import ScaleSetup, read_scale_setup
from d3ke_platform.errors import UsageError
from d3ke_platform.sources.opensim_folder import (
    FolderFiles,
    chosen,
    is_static,
    is_trc,
    locate,
    only,
)
from d3ke_platform.sources.opensim_settings import OpenSimSettings

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, kw_only=True)
class TrialFiles:
    """One trial: its marker file and what belongs to it."""

    name: str
    """Safe for file names; without the subject."""
    markers: Path
    ik_setup: Path | None = None
    timed: bool = False
    """Whether the setup was made for this very trial, so that its time range counts."""
    videos: tuple[tuple[str, Path], ...] = ()
    """(camera, file)."""


@dataclass(frozen=True, kw_only=True)
class SubjectFiles:
    """One subject, with all files found."""

    name: str
    scale: str
    """setup, estimate, model (scaled already) or own (the only model, taken as the subject's)."""
    generic: Path
    """Model that the subject's is a scaled copy of."""
    marker_set: Path | None = None
    """Markers put on it."""
    setup: ScaleSetup | None = None
    """With its files where they really are; None unless it is used."""
    setup_file: Path | None = None
    scaled_model: Path | None = None
    static: Path | None = None
    measured: Path | None = None
    """What the Scale setup measures in, where that is not the static trial."""
    trials: tuple[TrialFiles, ...] = ()
    calibration: Path | None = None
    notes: tuple[str, ...] = ()
    """What was found and decided, one line each."""

    def with_videos(
        self,
        matched: Mapping[Path, Sequence[tuple[str, Path]]],
        left: Sequence[Path],
        calibration: Path | None,
    ) -> SubjectFiles:
        """The same with the (camera, video)s of its trials' marker files; `left` belong to none."""
        notes = [f"{self.name}: video {video.name} belongs to no trial" for video in left]
        notes += [] if calibration is None else [f"{self.name}: cameras of {calibration.name}"]
        trials = tuple(
            replace(trial, videos=tuple(matched.get(trial.markers, ()))) for trial in self.trials
        )
        return replace(self, trials=trials, calibration=calibration, notes=(*self.notes, *notes))


def safe_name(text: str) -> str:
    """The text as part of a file's name."""
    return _UNSAFE.sub("-", text.strip()).strip("-.") or "unnamed"


def find_subject(
    files: FolderFiles, shared: FolderFiles, settings: OpenSimSettings, *, flat: bool
) -> SubjectFiles:
    """Decides what each file of a subject is.

    Args:
        files: of the subject's folder.
        shared: of the input folder, for what the subject's lacks.
        settings: choices that overrule what is found.
        flat: the input folder is this subject's folder.

    Raises:
        UsageError: several files could be meant, or none where a setting names one.
        InvalidInputError: a setup cannot be read, or names a file that is not there.
    """
    setup_file = _setup(files, shared, settings)
    setup = None if setup_file is None else _located(setup_file, files, shared)
    name = setup.name if flat and setup is not None else files.folder.name
    ik_setups = _ik_setups(files, shared, settings)
    scaled = _scaled_model(files, shared, settings, setup, ik_setups)
    generic = _generic(files, shared, settings, setup, scaled)
    scale = _way(settings.scale, setup, scaled, files.folder)
    static, measured = _statics(files, settings, setup)
    if scale == "estimate" and static is None:
        reason = "a model is to be scaled by estimate, but there is no static trial"
        raise InvalidInputError(str(files.folder), reason, "Name it with --opensim.static GLOB.")
    trials = _trials(files, settings, {static, measured}, ik_setups)
    subject = SubjectFiles(
        name=safe_name(name),
        scale=scale,
        generic=generic,
        marker_set=None if setup is None else setup.marker_set_file,
        setup=setup if scale == "setup" else None,
        setup_file=setup_file,
        scaled_model=(scaled or generic) if scale in ("model", "own") else None,
        static=static,
        measured=measured if scale == "setup" else None,
        trials=trials,
    )
    return replace(subject, notes=_notes(subject))


def _setup(files: FolderFiles, shared: FolderFiles, settings: OpenSimSettings) -> Path | None:
    if settings.scale_setup:
        found = chosen(files, shared, settings.scale_setup, "scale_setup")
    else:
        found = [*(files.setups_of("ScaleTool") or shared.setups_of("ScaleTool"))]
    if not found and settings.scale == "setup":
        raise InvalidInputError(
            str(files.folder), "holds no setup of OpenSim's ScaleTool (.xml), but scale is 'setup'"
        )
    return only(found, "Scale setups", "scale_setup", files.folder)


def _located(path: Path, files: FolderFiles, shared: FolderFiles) -> ScaleSetup:
    """The setup with its files where they really are."""
    setup, what = read_scale_setup(path), f"Scale setup {path.name}"

    def found(named: Path | None, needed: bool = True) -> Path | None:
        return locate(named, files, shared, what) if named is not None and needed else None

    scaler, placer = setup.scaler, setup.placer
    if setup.model_file is None:
        raise InvalidInputError(what, "names no model_file")
    if scaler.measures and scaler.marker_file is None:
        raise InvalidInputError(what, "its ModelScaler measures, but names no marker_file")
    if placer.apply and placer.marker_file is None:
        raise InvalidInputError(what, "its MarkerPlacer names no marker_file")
    return replace(
        setup,
        model_file=found(setup.model_file),
        marker_set_file=found(setup.marker_set_file),
        scaler=replace(scaler, marker_file=found(scaler.marker_file, scaler.measures)),
        placer=replace(
            placer,
            marker_file=found(placer.marker_file, placer.apply),
            coordinate_file=found(placer.coordinate_file, placer.apply),
        ),
    )


def _ik_setups(
    files: FolderFiles, shared: FolderFiles, settings: OpenSimSettings
) -> list[tuple[Path, IKTasks, bool]]:
    """Setups, what they say, and whether they are the subject's own (not shared)."""
    if settings.ik_setup:
        found = chosen(files, shared, settings.ik_setup, "ik_setup")
        return [(path, read_ik_setup(path), path in _inside(files)) for path in found]
    for place in (files, shared):
        tools = place.setups_of("InverseKinematicsTool")
        # Task sets of their own mostly belong to a setup: they count where there is no other.
        if use := tools or place.setups_of("IKTaskSet"):
            return [(path, read_ik_setup(path), place is files) for path in use]
    return []


def _inside(files: FolderFiles) -> set[Path]:
    return {path for paths in files.setups.values() for path in paths}


def _scaled_model(
    files: FolderFiles,
    shared: FolderFiles,
    settings: OpenSimSettings,
    setup: ScaleSetup | None,
    ik_setups: Sequence[tuple[Path, IKTasks, bool]],
) -> Path | None:
    """The model that is this subject's already: named, or that of the IK setup."""
    if settings.scaled_model:
        found = chosen(files, shared, settings.scaled_model, "scaled_model")
        return only(found, "scaled models", "scaled_model", files.folder)
    if setup is not None and settings.scale != "model":
        return None
    named = {tasks.model_file.name.lower() for _, tasks, own in ik_setups if tasks.model_file}
    found = [path for path in files.models if path.name.lower() in named]
    return only(found, "models that IK setups name", "scaled_model", files.folder)


def _generic(
    files: FolderFiles,
    shared: FolderFiles,
    settings: OpenSimSettings,
    setup: ScaleSetup | None,
    scaled: Path | None,
) -> Path:
    if settings.model:
        found = chosen(files, shared, settings.model, "model")
        model = only(found, "models", "model", files.folder)
    elif setup is not None:
        model = setup.model_file
    else:
        candidates = [path for path in files.models if path != scaled] or list(shared.models)
        model = only(candidates, "models", "model", files.folder) if candidates else scaled
    if model is None:
        raise InvalidInputError(
            str(files.folder), "holds no OpenSim model (.osim)", "Put one there or beside it."
        )
    return model


def _way(scale: str, setup: ScaleSetup | None, scaled: Path | None, folder: Path) -> str:
    if scale == "model" or (scale == "auto" and setup is None):
        return "model" if scaled is not None else "own"
    if scale == "setup" and setup is None:
        raise InvalidInputError(str(folder), "holds no setup of OpenSim's ScaleTool")
    return "setup" if scale == "auto" else scale


def _statics(
    files: FolderFiles, settings: OpenSimSettings, setup: ScaleSetup | None
) -> tuple[Path | None, Path | None]:
    """The static trial, and what a setup measures in if that is another."""
    if settings.static:
        found = chosen(files, files, settings.static, "static")
        return only(found, "static trials", "static", files.folder), None
    if setup is not None and setup.static_file is not None:
        measured = setup.scaler.marker_file
        return setup.static_file, None if measured == setup.static_file else measured
    named = _one_format([path for path in files.markers if is_static(path)])
    return only(named, "static trials", "static", files.folder), None


def _one_format(paths: Sequence[Path]) -> list[Path]:
    """Without the .c3d files of which there is a .trc: the same recording."""
    written = {path.with_suffix("").as_posix().lower() for path in paths if is_trc(path)}
    return [
        path
        for path in paths
        if is_trc(path) or path.with_suffix("").as_posix().lower() not in written
    ]


def _trials(
    files: FolderFiles,
    settings: OpenSimSettings,
    statics: set[Path | None],
    ik_setups: Sequence[tuple[Path, IKTasks, bool]],
) -> tuple[TrialFiles, ...]:
    resting = {path.resolve() for path in statics if path is not None}
    stems = {path.with_suffix("") for path in resting}
    if settings.trials:
        paths = chosen(files, files, settings.trials, "trials")
    else:
        paths = [p for p in files.markers if p.resolve().with_suffix("") not in stems]
        moving = [path for path in paths if not is_static(path)]
        paths = moving or paths
    paths = _one_format(paths)
    if not paths:
        raise UsageError(
            f"{files.folder} holds no trial beside the static one "
            f"({', '.join(path.name for path in files.markers)}). Name some by --opensim.trials."
        )
    trials = [_trial(path, ik_setups) for path in paths]
    names = [trial.name for trial in trials]
    if double := sorted({name for name in names if names.count(name) > 1}):
        # The same name in several folders: the folders tell them apart.
        trials = [
            replace(trial, name=safe_name(f"{trial.markers.parent.name}-{trial.name}"))
            if trial.name in double
            else trial
            for trial in trials
        ]
    return tuple(trials)


def _trial(path: Path, ik_setups: Sequence[tuple[Path, IKTasks, bool]]) -> TrialFiles:
    for file, tasks, own in ik_setups:
        if tasks.marker_file is not None and tasks.marker_file.stem.lower() == path.stem.lower():
            return TrialFiles(name=safe_name(path.stem), markers=path, ik_setup=file, timed=own)
    # A setup that serves no other trial by name serves all; of several, none is meant.
    setup = ik_setups[0][0] if len(ik_setups) == 1 else None
    return TrialFiles(name=safe_name(path.stem), markers=path, ik_setup=setup)


def _notes(subject: SubjectFiles) -> tuple[str, ...]:
    who, setup_file = subject.name, subject.setup_file
    how = {
        "setup": f"scaled by OpenSim's ScaleTool as {setup_file and setup_file.name} says",
        "estimate": f"{subject.generic.name} scaled by factors that fit the static trial",
        "model": f"{subject.scaled_model and subject.scaled_model.name} is this subject's model",
        "own": f"no Scale setup and no scaled model: {subject.generic.name} is taken as this "
        "subject's own model, unscaled (--opensim.scale estimate scales it by the static trial)",
    }
    notes = [f"{who}: {how[subject.scale]}"]
    if subject.scale != "setup" and setup_file is not None:
        notes.append(f"{who}: Scale setup {setup_file.name} is not used (scale)")
    if subject.static is not None:
        notes.append(f"{who}: static trial {subject.static.name}")
    for trial in subject.trials:
        by = f"IK setup {trial.ik_setup.name}" if trial.ik_setup else "no IK setup"
        timed = ", its time range" if trial.timed else ""
        notes.append(f"{who}: trial {trial.markers.name} with {by}{timed}")
    return tuple(notes)
