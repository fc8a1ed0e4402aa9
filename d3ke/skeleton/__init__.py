"""OpenSim models as plain arrays and as a differentiable layer."""

from d3ke.skeleton.layer import Pose, SkeletalModelLayer
from d3ke.skeleton.measurements import MeasurementSet
from d3ke.skeleton.predicted import PredictedSet
from d3ke.skeleton.root import root_coordinates_from_pose
from d3ke.skeleton.skeleton import Skeleton, full_body_model_path

__all__ = [
    "MeasurementSet",
    "Pose",
    "PredictedSet",
    "SkeletalModelLayer",
    "Skeleton",
    "full_body_model_path",
    "root_coordinates_from_pose",
]
