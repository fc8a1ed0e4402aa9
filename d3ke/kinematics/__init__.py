"""Marker data to joint angles with OpenSim: files, marker sets, scaling, inverse kinematics."""

from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.mot import Motion, read_mot, write_mot
from d3ke.kinematics.trc import MarkerTrajectories, read_trc, write_trc

__all__ = [
    "MarkerSet",
    "MarkerTrajectories",
    "Motion",
    "read_mot",
    "read_trc",
    "write_mot",
    "write_trc",
]
