"""What all sections share: strictness, and where each default comes from."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")]
"""Names that become parts of paths, labels and Kubernetes objects."""

EnvironmentVariable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{2,63}$")]
"""The *name* of an environment variable that holds a secret; a secret itself does not fit the pattern."""


def _exact(value: object) -> object:
    """A YAML float as the decimal that was written, so that 0.05 is exactly 1/20."""
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


Ratio = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=1)]
"""A mask ratio in [0, 1], exact."""


class Section(BaseModel):
    """A part of a recipe: frozen, strict types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def paper(default: Any, where: str, description: str, **rules: Any) -> Any:
    """A field whose default is the paper's; `where` says the place. The report lists departures from it."""
    return Field(
        default,
        description=f"{description} (paper: {where})",
        json_schema_extra={"paper": str(default), "where": where},
        **rules,
    )


def ours(default: Any, description: str, **rules: Any) -> Any:
    """A field whose default the paper does not give."""
    return Field(default, description=f"{description} (not in the paper)", json_schema_extra={"paper": None}, **rules)
