"""What all sections share: strictness, and where each default comes from."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")]
"""Names that become parts of paths, labels and Kubernetes objects."""

EnvironmentVariable = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{2,63}$")]
"""The *name* of an environment variable that holds a secret; a secret itself does not fit the pattern."""


def _exact(value: object) -> object:
    """A YAML float as the decimal that was written, so that 0.05 is exactly 1/20."""
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


Ratio = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, le=1)]
"""A mask ratio in [0, 1], exact."""


def folder_or_address(address: str) -> str:
    """Refuses what would become a folder of an odd name, and what may hold a password: an address is copied and shown."""
    scheme, slashes, rest = address.partition("://")
    if not slashes:
        if address.startswith("~"):
            raise ValueError("`~` is not expanded. Write the path out.")
        if re.match(r"\w+:/", address):
            raise ValueError(
                "is neither a path nor an address. Write s3://bucket/folder, gs://bucket/folder or a path."
            )
        return address
    if scheme not in ("s3", "gs", "file"):
        raise ValueError("is of no kind that is known. Write s3://bucket/folder, gs://bucket/folder or a path.")
    if "@" in rest:
        raise ValueError("holds a user, which everyone would see. Set AWS_ACCESS_KEY_ID in the environment instead.")
    if "?" in rest:
        raise ValueError("holds settings after `?`. Set AWS_ENDPOINT_URL, AWS_REGION and the like in the environment.")
    if (scheme == "file") != rest.startswith("/") or not rest.strip("/"):
        raise ValueError("names no folder. Write s3://bucket/folder, gs://bucket/folder or file:///folder.")
    return address


Folder = Annotated[str, Field(min_length=1), AfterValidator(folder_or_address)]
"""A path of this machine, or an address in an object store."""


def absolute_path(path: str) -> str:
    """Refuses an address, and a path that means another place on every node."""
    if not path.startswith("/"):
        raise ValueError("is not an absolute path. Write a folder of the nodes' own disks, as /scratch.")
    return path


LocalFolder = Annotated[str, AfterValidator(absolute_path)]
"""A folder that each machine has for itself."""


class Section(BaseModel):
    """A part of a recipe: frozen, strict types, finite numbers, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


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
