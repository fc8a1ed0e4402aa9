"""Marker data to joint angles: files, marker sets, scaling, inverse kinematics."""

from d3ke.kinematics.c3d import read_c3d, read_markers
from d3ke.kinematics.ik_result import IKResult
from d3ke.kinematics.ik_tasks import CoordinateTask, IKTasks, read_ik_setup
from d3ke.kinematics.inverse_kinematics import inverse_kinematics
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.mot import Motion, read_mot, write_mot
from d3ke.kinematics.scale_by_setup import scale_by_setup
from d3ke.kinematics.scale_setup import ScaleSetup, read_scale_setup
from d3ke.kinematics.scaling import ScaledSubject, ScalingSettings, scale_subject
from d3ke.kinematics.solve_ik import IKSettings, solve_ik
from d3ke.kinematics.trc import MarkerTrajectories, read_trc, write_trc

__all__ = [
    "CoordinateTask",
    "IKResult",
    "IKSettings",
    "IKTasks",
    "MarkerSet",
    "MarkerTrajectories",
    "Motion",
    "ScaleSetup",
    "ScaledSubject",
    "ScalingSettings",
    "inverse_kinematics",
    "read_c3d",
    "read_ik_setup",
    "read_markers",
    "read_mot",
    "read_scale_setup",
    "read_trc",
    "scale_by_setup",
    "scale_subject",
    "solve_ik",
    "write_mot",
    "write_trc",
]
