"""Model files as OpenSim 1.9 to 3.3 wrote them: joints inside bodies, `reverse`, old names."""

from __future__ import annotations

_PLACES = (
    "<location_in_parent>.1 .2 -.3</location_in_parent>"
    "<orientation_in_parent>.3 -.2 .5</orientation_in_parent>"
    "<location>.05 -.06 .07</location><orientation>-.1 .2 .4</orientation>"
)
_SPLINE = (
    "<NaturalCubicSpline name=''><x>-1.5 -0.2 0.4 1.5</x><y>-1.2 0.3 0.1 1.4</y>"
    "</NaturalCubicSpline>"
)
_LINE = "<LinearFunction><coefficients>1 0</coefficients></LinearFunction>"


def _constant(value: float) -> str:
    return f"<Constant><value>{value}</value></Constant>"


def _axis(name: str, axis: str, function: str, coordinate: str = "") -> str:
    return (
        f"<TransformAxis name='{name}'><coordinates>{coordinate}</coordinates>"
        f"<axis>{axis}</axis><function>{function}</function></TransformAxis>"
    )


_TRANSFORM = (
    "<SpatialTransform name=''>"
    + _axis("rotation1", "0 0 1", _SPLINE, "bend")
    + _axis("rotation2", "1 .3 0", _LINE, "turn")
    + _axis("rotation3", "0 1 0", _constant(0.0))
    + _axis("translation1", "1 0 0", _SPLINE, "bend")
    + _axis("translation2", "0 1 0", _constant(0.2))
    + _axis("translation3", "0 0 1", _constant(0.0))
    + "</SpatialTransform>"
)


def _joint(
    kind: str, name: str, parent: str, coordinates: str, is_reversed: bool, more: str = ""
) -> str:
    listed = "".join(
        f"<Coordinate name='{coordinate}'><motion_type>rotational</motion_type>"
        "<default_value>0.1</default_value><range>-1.5 1.7</range><clamped>true</clamped>"
        "<locked>false</locked><prescribed_function/></Coordinate>"
        for coordinate in coordinates.split()
    )
    return (
        f"<Joint><{kind} name='{name}'><parent_body>{parent}</parent_body>{_PLACES}"
        f"<CoordinateSet name=''><objects>{listed}</objects><groups/></CoordinateSet>"
        f"<reverse>{str(is_reversed).lower()}</reverse>{more}</{kind}></Joint>"
    )


def _body(name: str, joint: str, mass: int = 1) -> str:
    inertia = "".join(f"<inertia_{axis}>{mass}</inertia_{axis}>" for axis in ("xx", "yy", "zz"))
    shown = (
        "<VisibleObject name=''><GeometrySet name=''><objects><DisplayGeometry>"
        "<geometry_file>absent.vtp</geometry_file></DisplayGeometry></objects><groups/>"
        "</GeometrySet><scale_factors>1 1 1</scale_factors></VisibleObject>"
    )
    return f"<Body name='{name}'><mass>{mass}</mass>{inertia}{joint}{shown}</Body>"


def old_document(
    version: int, *, is_reversed: bool = False, coupler_disabled: bool | None = None
) -> str:
    """Ground - one (custom joint) - two (pin) - three (weld), with a marker on the last.

    Args:
        version: of the document, up to 30500.
        is_reversed: of every joint.
        coupler_disabled: None for no coupler of the pin to the custom joint.
    """
    bodies = (
        _body("ground", "<Joint/>", mass=0)
        + _body("one", _joint("CustomJoint", "j1", "ground", "bend turn", is_reversed, _TRANSFORM))
        + _body("two", _joint("PinJoint", "j2", "one", "pin", is_reversed))
        + _body("three", _joint("WeldJoint", "j3", "two", "", is_reversed))
    )
    coupler = (
        "<CoordinateCouplerConstraint name='follow'>"
        f"<isDisabled>{str(coupler_disabled).lower()}</isDisabled>"
        f"<coupled_coordinates_function>{_SPLINE}</coupled_coordinates_function>"
        "<independent_coordinate_names>bend</independent_coordinate_names>"
        "<dependent_coordinate_name>pin</dependent_coordinate_name></CoordinateCouplerConstraint>"
    )
    constraints = "" if coupler_disabled is None else coupler
    marker = "<Marker name='m'><body>three</body><location>.1 .2 .3</location></Marker>"
    return (
        f"<?xml version='1.0' encoding='UTF-8'?><OpenSimDocument Version='{version}'>"
        f"<Model name='old'><BodySet name=''><objects>{bodies}</objects><groups/></BodySet>"
        f"<ConstraintSet name=''><objects>{constraints}</objects><groups/></ConstraintSet>"
        f"<MarkerSet name=''><objects>{marker}</objects><groups/></MarkerSet>"
        "</Model></OpenSimDocument>"
    )
