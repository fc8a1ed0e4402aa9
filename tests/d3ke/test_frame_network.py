"""Per-frame network: shapes, start, gradients, input checks, learning."""

from __future__ import annotations

import pytest
import torch
from network_fixtures import full_body_head, random_estimate, target_of

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.losses import LossWeights, d3ke_loss
from d3ke.networks import BACKBONES, FrameNetwork, FrameNetworkConfig, build_backbone
from d3ke.networks.prediction import Estimate

CONFIG = FrameNetworkConfig(backbone="resnet18_half", image_size=64)


def one(estimate: Estimate) -> Estimate:
    return Estimate(*(values[0] for values in estimate))


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_gives_a_map_at_a_32nd(name: str) -> None:
    backbone, channels = build_backbone(name)
    with torch.no_grad():
        assert backbone.eval()(torch.rand(1, 3, 64, 96)).shape == (1, channels, 2, 3)


def test_half_width_resnet18_is_small() -> None:
    backbone, _ = build_backbone("resnet18_half")
    assert 2.7e6 < sum(p.numel() for p in backbone.parameters()) < 2.9e6


def test_paper_network_has_the_papers_size() -> None:
    network = FrameNetwork(FrameNetworkConfig(), full_body_head())
    assert sum(p.numel() for p in network.backbone.parameters()) == 22_979_904
    outputs = network.head.size  # the paper: 126 with its 51 scales
    assert sum(p.numel() for p in network.convolution.parameters()) == 2049 * outputs


def test_untrained_network_gives_its_start() -> None:
    torch.manual_seed(0)
    start = one(random_estimate(1, seed=3))
    network = FrameNetwork(CONFIG, full_body_head(), start).eval()
    estimate = network(torch.rand(4, 3, 64, 64))
    half_range = full_body_head().coordinate_half_range
    assert ((estimate.coordinates - start.coordinates).abs() / half_range).mean() < 0.1
    torch.testing.assert_close(
        estimate.root_rotation, start.root_rotation.expand(4, 3, 3), atol=0.3, rtol=0
    )
    facing = FrameNetwork(CONFIG, full_body_head()).eval()(torch.rand(1, 3, 64, 64))
    up, forward = facing.root_rotation[0, :, 1], facing.root_rotation[0, :, 0]
    assert up[1] < -0.8  # up in the picture
    assert forward[2] < -0.8  # towards the camera


def test_every_parameter_gets_a_gradient() -> None:
    network = FrameNetwork(CONFIG, full_body_head())
    estimate = network(torch.rand(2, 3, 64, 64))
    d3ke_loss(network.head, estimate, target_of(random_estimate(2)), LossWeights())[
        "total"
    ].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_uint8_and_float_images_give_the_same() -> None:
    network = FrameNetwork(CONFIG, full_body_head()).eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for first, second in zip(network(images), network(images.float() / 255), strict=True):
        torch.testing.assert_close(first, second)


def test_activation_comes_before_the_spatial_mean() -> None:
    head = full_body_head()
    network = FrameNetwork(CONFIG, head).eval()
    with torch.no_grad():
        network.convolution.weight.mul_(300)
        images = torch.rand(1, 3, 64, 64)
        raw = network.convolution(network.backbone(network.normalize(images)))
        expected = head.decode_activated(head.activate(raw.flatten(2).mT).mean(dim=1))
        pooled_first = head.decode(raw.mean(dim=(2, 3)))
        got = network(images).coordinates
    torch.testing.assert_close(got, expected.coordinates)
    assert not torch.allclose(got, pooled_first.coordinates, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.rand(1, 3, 64, 96), "64, 64"),
        (torch.rand(1, 3, 128, 128), "64, 64"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int64), "uint8"),
    ],
)
def test_wrong_images_are_refused(images: torch.Tensor, says: str) -> None:
    network = FrameNetwork(CONFIG, full_body_head())
    with pytest.raises(InvalidInputError, match=says):
        network(images)


def test_wrong_settings_are_refused(tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet18'"):
        FrameNetworkConfig(backbone="resnet_18")
    with pytest.raises(InvalidInputError, match="multiple of 32"):
        FrameNetworkConfig(image_size=100)
    with pytest.raises(InvalidInputError, match=r"frame\.weights"):
        build_backbone("resnet18", str(tmp_path / "none.pth"))
    with pytest.raises(InvalidInputError, match="nobody publishes"):
        build_backbone("resnet18_half", "imagenet")
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(b"not weights")
    with pytest.raises(InvalidInputError, match="not a readable"):
        build_backbone("resnet18", str(damaged))


def test_a_failed_download_names_the_flag(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(InvalidInputError, match=r"no route.*--frame\.weights"):
        build_backbone("resnet18", "imagenet")


def test_local_weights_are_loaded_and_checked(tmp_path) -> None:
    from torchvision.models import resnet18

    model = resnet18(weights=None)
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    backbone, _ = build_backbone("resnet18", str(path))
    assert torch.equal(backbone.state_dict()["conv1.weight"], model.conv1.weight)
    with pytest.raises(InvalidInputError, match="missing"):
        build_backbone("resnet34", str(path))


def test_training_step_under_bfloat16_autocast() -> None:
    network = FrameNetwork(CONFIG, full_body_head())
    with torch.autocast("cpu", torch.bfloat16):
        estimate = network(torch.rand(2, 3, 64, 64))
        loss = d3ke_loss(network.head, estimate, target_of(random_estimate(2)), LossWeights())
    assert estimate.coordinates.dtype == torch.float32
    loss["total"].backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_a_tiny_batch_is_learnt_by_heart() -> None:
    torch.manual_seed(0)
    head = full_body_head()
    network = FrameNetwork(CONFIG, head)
    images, target = torch.rand(2, 3, 64, 64), target_of(random_estimate(2, spread=0.5))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        loss = d3ke_loss(head, network(images), target, LossWeights())["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10, losses[::10]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "convnext_tiny", "efficientnet_v2_s"])
def test_weights_of_torchvisions_model_give_its_features(name: str, tmp_path) -> None:
    from torchvision.models import get_model

    model = get_model(name, weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    backbone, _ = build_backbone(name, str(tmp_path / "weights.pth"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.features(images)
        if name == "convnext_tiny":
            expected = model.classifier[0](expected)
        torch.testing.assert_close(backbone.eval()(images), expected)
