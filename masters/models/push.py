"""A model folder as a repository of the hub: made if it is not there, filled by the hub's own client.

The client sends nothing again that the hub has: neither files that are there, nor parts of them that an interrupted upload
brought there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OLD_WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]


@dataclass(frozen=True)
class Destination:
    """Where a model goes.

    Attributes:
        name: owner/name.
        private: whether a repository that is made is for its owner only.
        revision: a branch, made if it is not there; empty for the default one.
        token_env: environment variable that the token was read from, for messages.
    """

    name: str
    private: bool
    revision: str
    token_env: str


def push(folder: Path, place: Destination, token: str, tag: str) -> str:
    """Upload a folder; the address of what came to be.

    Weights of an earlier push that are not in the folder go; whatever else people added stays.

    Args:
        folder: with a card in it.
        place: where it goes.
        token: of the hub, with the right to write there.
        tag: which the card of a repository that is there already must have, or another model would be replaced.

    Raises:
        ValueError: where the hub refuses, or something else is there; what to do about it.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with _told(place):
        _check_free(api, place, tag)
        api.create_repo(place.name, private=place.private, exist_ok=True)
        if place.revision:
            api.create_branch(place.name, branch=place.revision, exist_ok=True)
        api.upload_folder(
            repo_id=place.name,
            folder_path=folder,
            revision=place.revision or None,
            commit_message="Student and card, by masters push",
            delete_patterns=_OLD_WEIGHTS,
        )
    return f"{api.endpoint}/{place.name}" + (f"/tree/{place.revision}" if place.revision else "")


def _check_free(api: Any, place: Destination, tag: str) -> None:
    """Raise ValueError where the repository is there with a model that is not ours, or open to more people than was asked."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(place.name)
    except RepositoryNotFoundError:
        return
    if place.private and info.private is False:
        raise ValueError(
            f"{place.name}: is there already, and everyone can read it. Add --public, or name another one."
        )
    names = [file.rfilename for file in info.siblings or ()]
    if names in ([], [".gitattributes"]):
        return
    if tag not in (info.tags or ()):
        raise ValueError(
            f"{place.name}: is there already, with a model that masters push did not bring there. Name another one; or delete it "
            "on the hub, if nobody needs it."
        )


@contextmanager
def _told(place: Destination) -> Iterator[None]:
    """What the hub says as people need it: with the remedy, and never with the token."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError as error:
        raise ValueError(
            f"{place.name}: is no name for a model on the hub: {_first(error)} Write OWNER/NAME."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status == 401:
            raise ValueError(
                f"{place.name}: the hub does not know the token in {place.token_env}. Make one with the right to write, and "
                "set it."
            ) from None
        if status in (403, 404):
            owner = place.name.partition("/")[0]
            raise ValueError(
                f"{place.name}: the token in {place.token_env} may not write there. Is {owner} you, or an organisation of yours? "
                "Use a token with the right to write, or another name."
            ) from None
        raise ValueError(
            f"{place.name}: the hub refused ({_first(error)}). Try again: what is there is not sent again."
        ) from error
    except (httpx2.HTTPError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{place.name}: the upload broke off ({_first(error)}). Try again: what is there is not sent again."
        ) from error


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
