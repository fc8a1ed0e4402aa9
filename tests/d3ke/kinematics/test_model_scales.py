"""Scale factors of models that were scaled before, found by comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke.kinematics.model_scales import scales_between
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.kinematics.scale_tool import read_scales
from d3ke.skeleton import full_body_model_path

GAIT = Path(__file__).parents[4] / "shared" / "opensim-models" / "gait2354"


def scaled(factors: np.ndarray):
    """The built-in model, scaled by OpenSim body by body: factors [N, 3]."""
    opensim = load_opensim()
    model = load_model(full_body_model_path())
    scales = opensim.ScaleSet()
    for body, (x, y, z) in zip(model.getBodySet(), factors, strict=True):
        scale = opensim.Scale()
        scale.setSegmentName(body.getName())
        scale.setScaleFactors(opensim.Vec3(float(x), float(y), float(z)))
        scale.setApply(True)
        scales.cloneAndAppend(scale)
    model.scale(model.initSystem(), scales, False, -1.0)
    return model


def test_factors_of_every_body_with_places_that_tell_them():
    generic = load_model(full_body_model_path())
    names = [body.getName() for body in generic.getBodySet()]
    factors = np.random.default_rng(2).uniform(0.8, 1.3, size=(len(names), 3))
    found = scales_between(generic, scaled(factors))
    femur = names.index("femur_r")
    # A femur's joints lie along y; x and z have centres of mass of millimetres at best.
    assert found[femur, 1] == pytest.approx(factors[femur, 1], abs=1e-3)
    pelvis = names.index("pelvis")
    np.testing.assert_allclose(found[pelvis], factors[pelvis], atol=1e-3)


def test_a_model_is_no_other_size_than_itself():
    generic = load_model(full_body_model_path())
    np.testing.assert_allclose(scales_between(generic, generic), 1.0)


@pytest.mark.skipif(not GAIT.is_dir(), reason="../shared/opensim-models is not here")
def test_the_published_example_to_the_digits_of_its_file():
    generic = load_model(GAIT / "gait2354_simbody.osim")
    subject = load_model(GAIT / "reference_subject01_simbody.osim")
    expected = read_scales(GAIT / "reference_scaleSet_applied.xml")
    for body, factors in zip(generic.getBodySet(), scales_between(generic, subject), strict=True):
        np.testing.assert_allclose(factors, expected[body.getName()], atol=1e-5)


def test_a_changed_model_is_no_scaled_copy():
    opensim = load_opensim()
    generic, changed = (load_model(full_body_model_path()) for _ in range(2))
    joint = changed.getJointSet().get("hip_r")
    frame = opensim.PhysicalOffsetFrame.safeDownCast(joint.getParentFrame())
    frame.set_translation(opensim.Vec3(-0.07, -0.02, 0.09))
    changed.finalizeConnections()
    with pytest.raises(InvalidInputError, match=r"joint on body 'pelvis' lies \d+ mm from where"):
        scales_between(generic, changed)
    changed.updBodySet().remove(changed.getBodySet().getSize() - 1)
    with pytest.raises(InvalidInputError, match="lacks the bodies"):
        scales_between(generic, changed)
