"""D3KE: single-camera video to 3D joint angles of an OpenSim musculoskeletal model."""

__version__ = "0.1.0"
