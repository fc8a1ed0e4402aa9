"""Planted feet: they stay, walks lead somewhere, everything else ends where it began."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke_platform.sources.anny_body import AnnyBody, BodyMotion, sample_phenotype
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.gait_table import IN_PLACE, TRAVELLING
from d3ke_platform.sources.motions import MotionStyle, make_motion, sample_motion_style
from d3ke_platform.sources.movement_table import MOVEMENTS, SEATED
from d3ke_platform.sources.planting import plant
from d3ke_platform.sources.seating import seat_of

RATE_HZ = 50.0


@pytest.fixture(scope="module")
def body() -> AnnyBody:
    return AnnyBody()


def moved(body: AnnyBody, movement: str, seed: int = 1, seconds: float = 2.2) -> BodyMotion:
    motion = make_motion(
        movement,
        rate_hz=RATE_HZ,
        seconds=seconds,
        style=MotionStyle(),
        rng=np.random.default_rng(seed),
        fine=True,
    )
    still = motion.root_position * [0, 1, 0]
    return body.pose(
        Phenotype(),
        motion.segment_rotations,
        still,
        grounding="frame",
        clearance=motion.clearance,
    )


def sliding(motion: BodyMotion) -> float:
    """Median speed of vertices while they touch the floor, m/s."""
    low = motion.vertices[..., 1].min(axis=0) < 0.02
    points = motion.vertices[:, low].astype(float)
    on_floor = np.maximum(points[:-1, :, 1], points[1:, :, 1]) < 0.004
    speed = np.linalg.norm(np.diff(points[..., [0, 2]], axis=0), axis=2) * RATE_HZ
    return float(np.median(speed[on_floor]))


def slid(body: AnnyBody, movement: str) -> tuple[float, float]:
    before = moved(body, movement)
    after = plant(before, rate_hz=RATE_HZ, travels=movement in TRAVELLING)
    return sliding(before), sliding(after)


@pytest.mark.parametrize("movement", ["sit_down", "lunge", "walk", "side_gallop"])
def test_feet_stay_where_they_are(body: AnnyBody, movement: str) -> None:
    before, after = slid(body, movement)
    assert after < 0.35 * before
    assert after < 0.12


def test_gaits_lead_somewhere_at_a_human_pace(body: AnnyBody) -> None:
    pace = {}
    for movement in sorted(TRAVELLING):
        path = plant(moved(body, movement), rate_hz=RATE_HZ, travels=True).joints["root"]
        pace[movement] = np.linalg.norm((path[-1] - path[0])[[0, 2]]) / len(path) * RATE_HZ
    assert 0.15 < pace["crawl"] < 0.8
    assert 0.8 < pace["walk"] < 1.6
    assert 0.5 < pace["side_gallop"] < 2.0
    assert 1.8 < pace["run"] < 3.5


@pytest.mark.parametrize("seed", range(4))
def test_whoever_walks_gets_on(body: AnnyBody, seed: int) -> None:
    """Posture and noise must not let the swinging foot be taken for the standing one."""
    motion = make_motion(
        "walk",
        rate_hz=RATE_HZ,
        seconds=2.2,
        style=sample_motion_style(np.random.default_rng(seed)),
        rng=np.random.default_rng(seed + 50),
        fine=True,
    )
    person = sample_phenotype(np.random.default_rng(seed), body)
    still = motion.root_position * [0, 1, 0]
    before = body.pose(person, motion.segment_rotations, still, grounding="frame")
    path = plant(before, rate_hz=RATE_HZ, travels=True).joints["root"][:, [0, 2]]
    straight = np.linalg.norm(path[-1] - path[0])
    assert 0.8 < straight / motion.times[-1] < 1.6
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() < 1.25 * straight


def test_walks_go_forward_and_gallops_sideways(body: AnnyBody) -> None:
    for movement, axis in (("walk", 0), ("run", 0), ("side_gallop", 2)):
        path = plant(moved(body, movement), rate_hz=RATE_HZ, travels=True).joints["root"]
        way = np.abs(path[-1] - path[0])
        assert way[axis] > 3 * way[2 - axis]
    walk = plant(moved(body, "walk"), rate_hz=RATE_HZ, travels=True).joints["root"]
    assert walk[-1, 0] > walk[0, 0]
    turned = plant(moved(body, "walk"), rate_hz=RATE_HZ, travels=True, heading=np.pi / 2)
    way = turned.joints["root"][-1] - turned.joints["root"][0]
    assert way[2] < -1.0  # turned to the left: from x towards -z


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_long_way_is_walked_in_a_circle(body: AnnyBody, side: float) -> None:
    motion = plant(
        moved(body, "run", seconds=4.0),
        rate_hz=RATE_HZ,
        travels=True,
        reach_m=0.9,
        side=side,
        middle=(0.3, -0.2),
    )
    path = motion.joints["root"][:, [0, 2]]
    assert np.abs(path - [0.3, -0.2]).max() < 1.15
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() > 3.5
    assert sliding(motion) < 0.5
    # Face where they go, and turn to the side that was asked for.
    hips = motion.joints["upperleg01.R"] - motion.joints["upperleg01.L"]
    ahead = np.stack([hips[:, 2], -hips[:, 0]], axis=1)
    step = np.diff(path, axis=0)
    cosine = (ahead[:-1] * step).sum(axis=1) / np.linalg.norm(ahead[:-1], axis=1)
    assert (cosine / np.linalg.norm(step, axis=1)).mean() > 0.8
    heading = np.unwrap(np.arctan2(-ahead[:, 1], ahead[:, 0]))
    assert side * (heading[-1] - heading[0]) > np.pi / 2


@pytest.mark.parametrize("movement", sorted(set(MOVEMENTS) - TRAVELLING - IN_PLACE))
def test_the_rest_ends_where_it_began_and_stays_near(body: AnnyBody, movement: str) -> None:
    motion = moved(body, movement)
    thin = BodyMotion(motion.vertices[:, ::5], motion.joints)
    path = plant(thin, rate_hz=RATE_HZ, middle=(0.1, 0.05)).joints["root"][:, [0, 2]]
    assert np.linalg.norm(path[-1] - path[0]) < 0.03
    assert np.abs(path - [0.1, 0.05]).max() < 0.5


def test_nothing_but_place_and_direction_changes(body: AnnyBody) -> None:
    before = moved(body, "walk")
    after = plant(before, rate_hz=RATE_HZ, travels=True, heading=1.0, reach_m=0.4)
    np.testing.assert_array_equal(after.vertices[..., 1], before.vertices[..., 1])
    pair = slice(None, None, 40), [0, 5000]
    for motion in (before, after):
        assert motion.vertices.dtype == np.float32
    apart = [np.linalg.norm(np.diff(m.vertices[pair], axis=1), axis=2) for m in (before, after)]
    np.testing.assert_allclose(apart[0], apart[1], atol=1e-5)
    for bone in ("root", "foot.R"):
        relative = [m.joints[bone] - m.joints["spine01"] for m in (before, after)]
        length = [np.linalg.norm(r, axis=1) for r in relative]
        np.testing.assert_allclose(length[0], length[1], atol=1e-9)


@pytest.mark.parametrize("movement", sorted(SEATED))
def test_the_chair_is_under_the_thighs(body: AnnyBody, movement: str) -> None:
    motion = plant(moved(body, movement), rate_hz=RATE_HZ)
    x, height, z, direction = seat_of(motion, body.dominant_bones)
    frame = int(motion.joints["root"][:, 1].argmin())
    hips, knees, feet = (
        (motion.joints[f"{bone}.R"][frame] + motion.joints[f"{bone}.L"][frame]) / 2
        for bone in ("upperleg01", "lowerleg01", "foot")
    )
    assert 0.3 < height < hips[1]
    assert hips[0] - 0.2 < x < knees[0]
    assert abs(z - hips[2]) < 0.1
    assert abs(direction) < 0.3
    assert feet[0] > x + 0.1
