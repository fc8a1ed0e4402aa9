"""Body shapes of the Anny mesh."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from d3ke.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class Phenotype:
    """Anny's shape parameters, each from 0 to 1 and without a unit."""

    gender: float = 0.5
    """0 = male, 1 = female."""
    age: float = 0.67
    """0.5 to 0.85 is adult."""
    muscle: float = 0.5
    """0.5 = average."""
    weight: float = 0.5
    """0.5 = average."""
    height: float = 0.4
    """0.4 gives about 1.75 m (men) and 1.65 m (women)."""
    proportions: float = 0.5
    """1 = idealised proportions."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0.0 <= value <= 1.0:
                raise InvalidInputError(f"phenotype {name}", f"{value} is outside 0 to 1")
