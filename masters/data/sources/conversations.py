"""Conversations in every dialect: from a list of turns to a system prompt and exchanges of a question and an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masters.data.rejects import RejectError, shown
from masters.data.sources.fields import absent
from masters.data.sources.marks import Mark, Marked, Piece, parse

_ROLES = {
    "system": "system", "developer": "system",
    "human": "human", "user": "human",
    "gpt": "gpt", "assistant": "gpt", "model": "gpt", "bot": "gpt",
}  # fmt: skip
_TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython", "tool_call", "tool_response")
_PAIRS = (("human", "assistant"), ("user", "assistant"))
_IMAGE_KEYS = ("image", "image_url", "url", "path", "image_path", "base64", "data", "source")


@dataclass(frozen=True)
class Turn:
    """What one side said: role human, gpt or system (else as the data call it), text or parts, and whether to train on it."""

    role: Any
    content: Any
    trained: bool = True
    thinking: bool = False


@dataclass(frozen=True)
class Exchange:
    """A question and its answer.

    Attributes:
        question: its text, Marked; what is no text passes as it is.
        answer: text, a list of accepted phrasings, or what the data hold instead.
        trained: False where the data say that the answer is only there for what follows.
    """

    question: Any
    answer: Any
    trained: bool = True


@dataclass(frozen=True)
class Conversation:
    """A system prompt, if there is one, exchanges in order, and phrases about what is odd."""

    system: Any
    exchanges: tuple[Exchange, ...]
    notes: tuple[str, ...] = ()


def turns_of(value: Any) -> list[Turn]:
    """Turns of a list in any dialect: {role, content}, {from, value}, {user, assistant}, {human, assistant}.

    Raises:
        RejectError: where it is no list of turns, or has turns of tools.
    """
    if isinstance(value, Mapping) and value and all(isinstance(column, list) for column in value.values()):
        lists = value.values()  # a sequence of maps that `datasets` stored as a map of columns
        value = [dict(zip(value, items, strict=False)) for items in zip(*lists, strict=False)]
    if not isinstance(value, list | tuple) or not value:
        raise RejectError("conversation is missing", "" if value is None else shown(value))
    turns: list[Turn] = []
    for item in value:
        pair = next((pair for pair in _PAIRS if isinstance(item, Mapping) and set(pair) <= item.keys()), None)
        if pair:
            turns += [Turn("human", item[pair[0]]), Turn("gpt", item[pair[1]])]
        else:
            turns.append(_turn(item))
    return turns


def history_turns(value: Any) -> list[Turn]:
    """Turns of a history of pairs, [[question, answer], ...]. Raises RejectError."""
    turns: list[Turn] = []
    if absent(value):
        return turns
    for pair in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise RejectError("history is not question, answer, question, answer", shown(pair))
        turns += [Turn("human", pair[0]), Turn("gpt", pair[1])]
    return turns


def conversation_of(turns: Sequence[Turn], system: Any = None) -> Conversation:
    """The exchanges of alternating turns.

    Args:
        turns: of both sides in order, the first may be the system's.
        system: prompt that stands beside the turns; a turn of the system goes before it.

    Raises:
        RejectError: where the turns do not alternate or do not end with an answer.
    """
    notes = []
    system = None if isinstance(system, str) and not system.strip() else system
    roles = [turn.role for turn in turns]
    if roles and roles[0] == "system":
        spoken = _plain(turns[0].content, "system prompt")
        if system not in (None, spoken):
            notes.append("the system turn is used, not the system field")
        system = None if isinstance(spoken, str) and not spoken.strip() else spoken
        turns, roles = turns[1:], roles[1:]
    if any(role != ("human", "gpt")[place % 2] for place, role in enumerate(roles)):
        raise RejectError("conversation does not alternate between human and gpt", str(roles))
    if not turns or len(turns) % 2:
        raise RejectError("conversation does not end with an answer", f"{len(turns)} turns")
    if any(turn.thinking for turn in turns):
        notes.append("thinking of answers is not used")
    exchanges = [
        Exchange(pieces_of(question.content), _plain(answer.content, "answer"), answer.trained)
        for question, answer in zip(turns[::2], turns[1::2], strict=True)
    ]
    return Conversation(system, tuple(exchanges), tuple(notes))


def pieces_of(content: Any) -> Any:
    """A question's content as Marked text: of a string, or a list of parts; anything else as it is.

    Texts that follow one another are joined by a line break. Raises RejectError for parts that are neither text nor image.
    """
    if isinstance(content, str):
        return parse(content)
    if not _is_parts(content):
        return content
    pieces: list[Piece] = []
    after_text = False
    for part in content:
        text = _part_text(part)
        if text is None:
            pieces.append(_part_image(part))
        else:
            pieces += [*(["\n"] if after_text else []), *parse(text)]
        after_text = text is not None
    return Marked(pieces)


def _turn(item: Any) -> Turn:
    role = _either(item, "role", "from")
    if role is None or not ({"content", "value", "tool_calls"} & item.keys()):
        raise RejectError("conversation turn is not {from, value}", shown(item))
    known = role.strip().lower() if isinstance(role, str) else role
    if known in _TOOL_ROLES or item.get("tool_calls") or item.get("function_call"):
        raise RejectError("tool turns are not supported", shown(role))
    trained = item.get("loss") not in (False, 0) and item.get("weight") not in (False, 0)
    thinking = bool(item.get("thinking") or item.get("reasoning_content"))
    return Turn(
        _ROLES.get(known, role) if isinstance(known, str) else role,
        _either(item, "content", "value"),
        trained,
        thinking,
    )


def _either(item: Any, one: str, other: str) -> Any:
    if not isinstance(item, Mapping):
        return None
    return item.get(other) if item.get(one) is None else item[one]


def _is_parts(content: Any) -> bool:
    return (
        isinstance(content, list | tuple)
        and bool(content)
        and all(isinstance(p, Mapping) and "type" in p for p in content)
    )


def _part_text(part: Mapping[str, Any]) -> str | None:
    """The text of a part; None for an image. Raises RejectError."""
    kind = str(part["type"])
    if kind in ("text", "input_text", "output_text"):
        text = part.get("text", part.get("content"))
        if isinstance(text, str):
            return text
        raise RejectError("part of a turn has no text", shown(dict(part)))
    if kind in ("image", "image_url", "input_image"):
        return None
    for media in ("video", "audio"):
        if media in kind:
            raise RejectError(f"{media} is not supported", shown(kind))
    if "tool" in kind or "function" in kind:
        raise RejectError("tool turns are not supported", shown(kind))
    raise RejectError("part of a turn is neither text nor image", shown(kind))


def _part_image(part: Mapping[str, Any]) -> Mark:
    """The mark of a part: the image that it holds or names, else the record's next one, or the one of its `index`."""
    value = next((part[key] for key in _IMAGE_KEYS if part.get(key) is not None), None)
    for key in ("url", "data"):  # {url: ...}, and {type: base64, data: ...}
        if isinstance(value, Mapping) and value.get(key):
            value = value[key]
    if isinstance(value, str):
        return Mark(path=value)
    if value is None and isinstance(part.get("index"), int):
        return Mark(number=part["index"] + 1)
    return Mark(image=value)


def _plain(content: Any, what: str) -> Any:
    """Text of parts without images; anything else as it is."""
    if not _is_parts(content):
        return content
    texts = [_part_text(part) for part in content]
    if None in texts:
        raise RejectError(f"{what} holds an image")
    return "\n".join(text for text in texts if text is not None)
