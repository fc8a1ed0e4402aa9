"""Networks: per-frame estimates from crops, their refinement over time, bundles."""

from d3ke.networks.backbones import BACKBONES, build_backbone
from d3ke.networks.bundle import Bundle, BundleError, load_bundle, save_bundle
from d3ke.networks.frame_network import FrameNetwork, FrameNetworkConfig
from d3ke.networks.prediction import Estimate, PredictionHead, mean_estimate
from d3ke.networks.sequence_network import SequenceNetwork, SequenceNetworkConfig

__all__ = [
    "BACKBONES",
    "Bundle",
    "BundleError",
    "Estimate",
    "FrameNetwork",
    "FrameNetworkConfig",
    "PredictionHead",
    "SequenceNetwork",
    "SequenceNetworkConfig",
    "build_backbone",
    "load_bundle",
    "mean_estimate",
    "save_bundle",
]
