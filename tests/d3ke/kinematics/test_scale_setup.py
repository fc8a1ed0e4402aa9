"""Setup files of OpenSim's ScaleTool, read and written without OpenSim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics.scale_setup import (
    ManualScale,
    PlacerCoordinate,
    ScaleMeasurement,
    ScaleSetup,
    read_scale_setup,
)
from d3ke.kinematics.scale_setup_file import write_scale_setup

GAIT = Path(__file__).parents[4] / "shared" / "opensim-models" / "gait2354"
MEASUREMENT = """<Measurement name="{name}"><apply>{apply}</apply><MarkerPairSet><objects>
<MarkerPair><markers> {markers} </markers></MarkerPair></objects></MarkerPairSet><BodyScaleSet>
<objects><BodyScale name="femur"><axes> {axes} </axes></BodyScale></objects></BodyScaleSet>
</Measurement>"""
MANUAL = """<Scale><scales> {factors} </scales><segment> tibia </segment>
<apply>{apply}</apply></Scale>"""


def measurement(name="thigh", apply="true", markers="A B", axes="X Z"):
    return MEASUREMENT.format(name=name, apply=apply, markers=markers, axes=axes)


def manual(factors="1 1.1 1.2", apply="true"):
    return MANUAL.format(factors=factors, apply=apply)


def setup_file(folder, *, scaler="", measurements="", manual_scales="", placer="", top=""):
    path = folder / "any name.xml"
    path.write_text(
        f"""<?xml version="1.0"?><OpenSimDocument Version="20302"><ScaleTool name="anna">{top}
        <GenericModelMaker><model_file>..\\models\\generic.osim</model_file>
        <marker_set_file>Unassigned</marker_set_file></GenericModelMaker>
        <ModelScaler>{scaler}<MeasurementSet><objects>{measurements}</objects></MeasurementSet>
        <ScaleSet><objects>{manual_scales}</objects></ScaleSet></ModelScaler>
        <MarkerPlacer>{placer}</MarkerPlacer></ScaleTool></OpenSimDocument>"""
    )
    return path


@pytest.mark.skipif(not GAIT.is_dir(), reason="../shared/opensim-models is not here")
def test_opensims_own_example():
    setup = read_scale_setup(GAIT / "subject01_Setup_Scale.xml")
    assert (setup.name, setup.mass_kg, setup.height_mm) == ("subject01", 72.6, 1803.4)
    assert setup.model_file == GAIT / "gait2354_simbody.osim"
    assert setup.marker_set_file == GAIT / "gait2354_Scale_MarkerSet.xml"
    scaler, placer = setup.scaler, setup.placer
    assert scaler.order == ("measurements", "manualScale")
    assert [m.name for m in scaler.measurements] == ["torso", "pelvis", "thigh", "shank", "foot"]
    assert scaler.measurements[2].marker_pairs[1] == ("L.ASIS", "L.Knee.Lat")
    assert ManualScale(body="tibia_l", factors=(0.988523,) * 3) in scaler.manual_scales
    assert (scaler.time_range, placer.time_range) == ((1.0, 2.0), (1.0, 1.01))
    assert scaler.preserve_mass_distribution
    assert setup.static_file == GAIT / "subject01_static.trc"
    assert (placer.marker_weights["R.ASIS"], placer.marker_weights["Sternum"]) == (1000.0, 1.0)
    subtalar = PlacerCoordinate(
        name="subtalar_angle_r", weight=1000.0, value_type="default_value", value=0.0
    )
    assert subtalar in placer.coordinate_tasks


def test_what_does_not_apply_is_left_out_and_the_rest_has_opensims_defaults(tmp_path):
    setup = read_scale_setup(
        setup_file(
            tmp_path,
            scaler="<apply>true</apply><scaling_order>manualScale</scaling_order>",
            measurements=measurement() + measurement("other", apply="false"),
            manual_scales=manual() + manual(apply="false"),
            placer="<apply>false</apply>",
        )
    )
    assert setup.scaler.measurements == (
        ScaleMeasurement(name="thigh", marker_pairs=(("A", "B"),), body_axes=(("femur", "xz"),)),
    )
    assert setup.scaler.manual_scales == (ManualScale(body="tibia", factors=(1.0, 1.1, 1.2)),)
    assert not setup.scaler.measures  # not in the scaling order
    assert not setup.placer.apply
    assert setup.mass_kg < 0
    assert setup.marker_set_file is None
    # Windows writes backslashes.
    assert setup.model_file == tmp_path / "../models/generic.osim"


def test_sets_may_lie_in_files_of_their_own(tmp_path):
    (tmp_path / "measurements.xml").write_text(
        f"<OpenSimDocument><MeasurementSet><objects>{measurement()}</objects></MeasurementSet>"
        "</OpenSimDocument>"
    )
    path = setup_file(tmp_path)
    text = path.read_text().replace(
        "<MeasurementSet><objects></objects></MeasurementSet>",
        '<MeasurementSet file="measurements.xml"/>',
    )
    path.write_text(text)
    assert [m.name for m in read_scale_setup(path).scaler.measurements] == ["thigh"]


@pytest.mark.parametrize(
    ("parts", "error", "reason"),
    [
        ({"scaler": "<scaling_order>guess</scaling_order>"}, UnknownNameError, "'guess'"),
        ({"measurements": measurement(markers="A")}, InvalidInputError, "not two markers"),
        ({"measurements": measurement(axes="X W")}, UnknownNameError, "'w'"),
        ({"measurements": measurement(axes="")}, InvalidInputError, "no axis of body 'femur'"),
        ({"manual_scales": manual("1 1")}, InvalidInputError, "cannot be understood"),
        ({"manual_scales": manual("1 0 1")}, InvalidInputError, "manual scale of 'tibia'"),
        ({"top": "<mass>heavy</mass>"}, InvalidInputError, "'heavy'"),
        ({"placer": "<time_range>1</time_range>"}, InvalidInputError, "time_range"),
    ],
)
def test_malformed_setups_are_refused_by_name(tmp_path, parts, error, reason):
    with pytest.raises(error, match=reason):
        read_scale_setup(setup_file(tmp_path, **parts))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.xml").write_text("<OpenSimDocument><InverseKinematicsTool/></OpenSimDocument>")
    with pytest.raises(InvalidInputError, match="<InverseKinematicsTool> where <ScaleTool>"):
        read_scale_setup(tmp_path / "a.xml")
    (tmp_path / "b.xml").write_text("<OpenSimDocument>")
    with pytest.raises(InvalidInputError, match="is not XML"):
        read_scale_setup(tmp_path / "b.xml")
    with pytest.raises(InvalidInputError, match="No such file"):
        read_scale_setup(tmp_path / "c.xml")


@pytest.mark.skipif(not GAIT.is_dir(), reason="../shared/opensim-models is not here")
def test_what_is_written_is_read_back(tmp_path):
    setup = read_scale_setup(GAIT / "subject01_Setup_Scale.xml")
    write_scale_setup(tmp_path / "copy.xml", setup)
    read = read_scale_setup(tmp_path / "copy.xml")

    def local(one: ScaleSetup) -> ScaleSetup:
        """Files by their names alone: those of the copy lie beside it."""

        def name(file: Path | None) -> Path | None:
            return file and Path(file.name)

        return replace(
            one,
            model_file=name(one.model_file),
            marker_set_file=name(one.marker_set_file),
            scaler=replace(one.scaler, marker_file=name(one.scaler.marker_file)),
            placer=replace(one.placer, marker_file=name(one.placer.marker_file)),
        )

    assert local(read) == local(setup)
