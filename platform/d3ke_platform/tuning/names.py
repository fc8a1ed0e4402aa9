"""Which settings of a network can be searched, and how values are put into the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

from d3ke.augmentation import AugmentationConfig
from d3ke_platform.training.settings import StageSettings, TrainSettings

Changed = TypeVar("Changed")

LEARNING_RATE, STRENGTH = "learning_rate", "augmentation_strength"
"""Names that stand for several settings at once."""

# Epochs: how long a trial runs is for ASHA to say. The rest belongs to what is made before the
# search, or decides what is measured.
_FIXED = (
    "epochs",
    "selection_metric",
    "enabled",
    "estimate_passes",
    "cross_fit_folds",
    "weights",
    "bundle",
    "compile",
    "occluders",
)


def searchable(settings: TrainSettings, stage: str) -> dict[str, Any]:
    """Names of all settings of a network that can be searched, with their types."""
    network = getattr(settings, stage)
    names = {f"{stage}.{LEARNING_RATE}": float}
    if stage == "frame":
        names[f"{stage}.{STRENGTH}"] = float
    return {**names, **dict(_leaves(type(network), f"{stage}."))}


def current(settings: TrainSettings, name: str) -> Any:
    """The value that a searchable name has in `settings`."""
    stage, _, rest = name.partition(".")
    value: Any = getattr(settings, stage)
    if rest == LEARNING_RATE:
        return value.learning_rate_start[0]
    if rest == STRENGTH:
        return 1.0
    for part in rest.split("."):
        value = getattr(value, part)
    if name == "sequence.dropout":
        return settings.sequence.network().dropped
    if name == "sequence.width":
        return settings.sequence.network().channels
    return value


def assign(settings: TrainSettings, values: Mapping[str, Any]) -> TrainSettings:
    """`settings` with the values of searchable names; all at once, because some only fit together.

    Raises:
        D3KEError: the values contradict each other (the settings' own checks).
    """
    plain: dict[str, Any] = {}
    for name, value in values.items():
        stage, _, rest = name.partition(".")
        network = getattr(settings, stage)
        if rest == LEARNING_RATE:
            plain |= {f"{stage}.{key}": rates for key, rates in _rates(network, value).items()}
        elif rest == STRENGTH:
            for key, amount in stronger(network.augmentation, value).items():
                plain[f"{stage}.augmentation.{key}"] = amount
    # What is named itself wins over what was changed together with others.
    plain |= {name: value for name, value in values.items() if not _is_composite(name)}
    return _replaced(settings, _nested(plain))


def stronger(config: AugmentationConfig, strength: float) -> dict[str, Any]:
    """Ranges of an augmentation times `strength`; what cannot exceed 1 does not."""
    return {
        "shift": config.shift * strength,
        "zoom": tuple(bound**strength for bound in config.zoom),
        "roll_degrees": config.roll_degrees * strength,
        "brightness": config.brightness * strength,
        "contrast": min(1.0, config.contrast * strength),
        "saturation": min(1.0, config.saturation * strength),
        "hue_degrees": config.hue_degrees * strength,
        "erase_probability": min(1.0, config.erase_probability * strength),
    }


def _rates(network: StageSettings, value: float) -> dict[str, tuple[float, ...]]:
    """All learning rates, with that of the first phase starting at `value`."""
    factor = value / network.learning_rate_start[0]
    return {
        name: tuple(rate * factor for rate in getattr(network, name))
        for name in ("learning_rate_start", "learning_rate_end")
    }


def _is_composite(name: str) -> bool:
    return name.partition(".")[2] in (LEARNING_RATE, STRENGTH)


def _leaves(settings_class: type[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(settings_class)
    for field in fields(settings_class):
        hint = hints[field.name]
        if field.name in _FIXED:
            continue
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _leaves(hint, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, hint


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as nested dictionaries."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return result


def _replaced(settings: Changed, changes: Mapping[str, Any]) -> Changed:
    new = {
        name: _replaced(getattr(settings, name), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return replace(settings, **new)  # type: ignore[type-var]
