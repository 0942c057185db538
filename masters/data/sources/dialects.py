"""Dialects: from one record of any file to raw rows. Fields are found by their usual names, or as the recipe names them."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from masters.config.prepare import RecordSource
from masters.data.rejects import RejectError
from masters.data.rows import IMAGE_MARK
from masters.data.sources.choices import as_list, choose, option_fields, options_of
from masters.data.sources.conversations import Conversation, Turn, conversation_of, history_turns, turns_of
from masters.data.sources.fields import (
    ANSWERS,
    QUESTIONS,
    absent,
    conversation_field,
    encoded,
    has_field,
    images_of,
    look_up,
    other_media,
    unread_images,
    usual_name,
)
from masters.data.sources.marks import Mark, Marked, names_pictures, odd_marks, place_images

_GROUNDING = ("<bbox>", "<ref-object>")


def rows_of(record: Any, source: RecordSource, split: str, place: str, file: str) -> Iterator[dict[str, Any]]:
    """Fields of `RawRow` for each answer of a record, without `number` and `folder`; earlier turns become the history.

    Args:
        record: a mapping; or the error that reading it raised.
        source: how the recipe names its fields.
        split: of the file, empty where nothing says it; the record's own goes before it.
        place: of the record in its file, and
        file: its name; both enter the id of a record that has none.
    """
    if isinstance(record, Exception):
        yield {"problem": ("line is not JSON", str(record)), "split": split or source.split}
        return
    if not isinstance(record, Mapping):
        yield {"problem": ("record is not an object", type(record).__name__), "split": split or source.split}
        return
    base = {
        "split": _field(record, source.split_field) or split or source.split,
        "answer_type": _field(record, source.answer_type_field) or source.answer_type,
        "question_type": _field(record, source.question_type_field) or "",
    }
    try:
        talk, options = _read(record, source)
        turns, notes = _placed(record, source, talk)
    except RejectError as error:
        row_id = _row_id(record, source, f"{file}\0{place}")
        yield {**base, "row_id": row_id, "problem": (error.reason, error.detail)}
        return
    content = "\0".join(
        f"{question}\0{exchange.answer}" for (question, _), exchange in zip(turns, talk.exchanges, strict=True)
    )
    base |= {"row_id": _row_id(record, source, f"{file}\0{place}\0{content}"), "system": talk.system, "notes": notes}
    if options:
        base |= {"options": options, "answer_type": "choice"}
    yield from _rows(base, talk, turns)


def check_fields(record: Mapping[str, Any], source: RecordSource) -> None:
    """Refuse a source whose records cannot be read as the recipe stands; the first record of each file tells.

    Raises:
        ValueError: where fields that the recipe names are not there, or no question, answer or image would be found.
    """
    where, found = f"prepare.sources[{getattr(source, 'name', '')}]", ", ".join(map(str, record)) or "none"
    for setting, field in _named_fields(source):
        if not has_field(record, field):
            raise ValueError(f"{where}.{setting} = {field}: no such field; found {found}. Name a field of the data.")
    if source.choices is not None and source.conversation is not None:
        raise ValueError(f"{where}.choices: goes with question and answer, not with conversation. Remove one of them.")
    conversation = conversation_field(record, source)
    if source.answer is None and source.conversation is None:
        _refuse_preferences(record, where, conversation)
    if conversation is None:
        _check_table(record, source, where, found)
    try:
        images_of(record, source)
    except RejectError:
        field = next(unread_images(record))[0]
        raise ValueError(
            f"{where}.images: is not set and no usual name is there, but {field} looks like images. Set images: {field}; "
            "if the questions are about text only, remove that field."
        ) from None


def _named_fields(source: RecordSource) -> Iterator[tuple[str, str]]:
    """(setting, field) of all fields that the recipe itself names."""
    settings = ("id", "question", "answer", "images", "system", "conversation", "split_field", "answer_type_field")
    for setting in (*settings, "question_type_field"):
        value = getattr(source, setting) if setting in source.model_fields_set else None
        yield from ((setting, field) for field in ([value] if isinstance(value, str) else value or ()))
    if source.choices is not None:
        options = source.choices.options
        yield from (("choices.options", field) for field in ([options] if isinstance(options, str) else options))


def _refuse_preferences(record: Mapping[str, Any], where: str, conversation: str | None) -> None:
    if not {"chosen", "rejected"} <= record.keys() or (conversation is None and usual_name(record, ANSWERS)):
        return
    chosen = record["chosen"]
    prompt = conversation or usual_name(record, QUESTIONS)
    if prompt:
        remedy = "To train on the preferred answers, set answer: chosen."
    elif isinstance(chosen, list):
        remedy = "To train on the preferred answers, set conversation: chosen."
    else:
        remedy = "There is no question beside them: split it off the answers first."
    raise ValueError(f"{where}: holds preferences (chosen and rejected), not questions with an answer. {remedy}")


def _check_table(record: Mapping[str, Any], source: RecordSource, where: str, found: str) -> None:
    names = {
        "question": source.question or usual_name(record, QUESTIONS),
        "answer": source.answer or usual_name(record, ANSWERS),
    }
    missing = [name for name, field in names.items() if field is None]
    if len(missing) == 2 and "text" in record:
        raise ValueError(
            f"{where}: holds plain text (language-model data), not questions with an answer; found {found}. "
            "If two of these are a question and its answer, set question and answer."
        )
    if missing:
        instead = "" if len(missing) == 1 else ", or conversation to a field with turns"
        raise ValueError(
            f"{where}: no {' and no '.join(missing)} under a usual name; found {found}. "
            f"Set {' and '.join(missing)} to fields of the data{instead}."
        )
    columns = option_fields(record)
    if columns and source.choices is None:
        named = columns[0] if len(columns) == 1 else f"[{', '.join(columns)}]"
        answer = look_up(record, str(names["answer"]))
        text = str(answer).strip()
        kind = "index" if text.isdecimal() else "letter" if len(text) == 1 else "text"
        raise ValueError(
            f"{where}.choices: is not set, but {', '.join(columns)} look like options, and the answer is {text[:80]!r}. "
            f"Set choices: {{options: {named}, answer: {kind}}}; answer is index, index_from_1, letter or text."
        )


def _field(record: Mapping[str, Any], field: str | None) -> Any:
    value = None if field is None else look_up(record, field)
    return None if absent(value) else value


def _row_id(record: Mapping[str, Any], source: RecordSource, content: str) -> Any:
    """The record's id, None where it should have one; else a hash of place and content, 16 hex digits."""
    if source.id is not None and ("id" in source.model_fields_set or has_field(record, source.id)):
        value = look_up(record, source.id)
        return int(value) if isinstance(value, float) and value.is_integer() else value
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:16]


def _read(record: Mapping[str, Any], source: RecordSource) -> tuple[Conversation, list[str]]:
    """The conversation of a record, and its options. Raises RejectError."""
    media = other_media(record)
    if media:
        raise RejectError(f"{media[0]} is not supported", f"field {media[1]}")
    system = look_up(record, source.system or "system")
    field = conversation_field(record, source)
    if field is None:
        return _table_row(record, source, system)
    turns = turns_of(look_up(record, field))
    if source.answer is not None:
        if turns[-1].role == "gpt":
            raise RejectError("conversation has an answer already", f"beside the field {source.answer}")
        turns += _said("gpt", look_up(record, source.answer))
    _refuse_disliked(record, None)
    return conversation_of(turns, system), []


def _table_row(record: Mapping[str, Any], source: RecordSource, system: Any) -> tuple[Conversation, list[str]]:
    question_field = source.question or usual_name(record, QUESTIONS)
    answer_field = source.answer or usual_name(record, ANSWERS)
    if question_field is None and answer_field is None:
        raise RejectError("conversation is missing", f"nor a question; fields {', '.join(map(str, record))}"[:200])
    question = None if question_field is None else look_up(record, question_field)
    answer = None if answer_field is None else look_up(record, answer_field)
    more = record.get("input") if question_field == "instruction" else None
    if isinstance(question, str) and isinstance(more, str) and more.strip():
        question = f"{question}\n{more}"
    options: list[str] = []
    if source.choices is not None:
        options = options_of(record, source.choices)
        if options and isinstance(question, str):
            question, answer = choose(question, answer, options, source.choices)
        elif isinstance(phrasings := as_list(answer), list) and all(isinstance(text, str) for text in phrasings):
            answer = phrasings  # "['0.5', '1/2']"; but "[1, 2]" is one answer
    elif option_fields(record):
        raise RejectError("options are listed, but the recipe has no choices", ", ".join(option_fields(record)))
    _refuse_disliked(record, answer_field)
    turns = [*history_turns(record.get("history")), *_said("human", question), *_said("gpt", answer)]
    return conversation_of(turns, system), options


def _said(role: str, value: Any) -> list[Turn]:
    """Turns where the value is a turn or a list of turns, else one turn of the role."""
    items = [value] if isinstance(value, Mapping) else value
    if (
        isinstance(items, list | tuple)
        and items
        and all(isinstance(i, Mapping) and {"role", "from"} & i.keys() for i in items)
    ):
        return turns_of(items)
    return [Turn(role, value)]


def _refuse_disliked(record: Mapping[str, Any], answer_field: str | None) -> None:
    """Some data mark answers as bad ones, beside a conversation or a completion. Raises RejectError."""
    label = record.get("label") if answer_field in (None, "completion", "output", "response") else None
    if label is False or record.get("kto_tag") is False:
        raise RejectError("answer is marked as a bad one", "label or kto_tag is false")


def _placed(
    record: Mapping[str, Any], source: RecordSource, talk: Conversation
) -> tuple[list[tuple[Any, list[Any]]], tuple[str, ...]]:
    """Of each exchange, its question as text and its images; and what is odd about the record. Raises RejectError."""
    questions = [exchange.question for exchange in talk.exchanges]
    pieces = [piece for question in questions if isinstance(question, Marked) for piece in question]
    images, notes = images_of(record, source)
    said = [*pieces, *(exchange.answer for exchange in talk.exchanges)]
    if record.get("objects") and any(isinstance(s, str) and mark in s for s in said for mark in _GROUNDING):
        raise RejectError("places of objects are not supported", "write the boxes into the text")
    notes += [*talk.notes, *odd_marks(pieces)]
    if images and names_pictures(pieces) and not any(isinstance(piece, Mark) for piece in pieces):
        notes.append("words such as 'Picture 1:' and no mark of an image")
    notes += [f"field {field} is not used" for field in ("tools", "rejected", "rejected_response") if record.get(field)]
    turns, odd = place_images(questions, images)
    texts = [(question, [encoded(image) for image in images]) for question, images in turns]
    return texts, tuple(dict.fromkeys([*notes, *odd]))


def _rows(base: dict[str, Any], talk: Conversation, turns: list[tuple[Any, list[Any]]]) -> Iterator[dict[str, Any]]:
    """A row per answer. A pair without an answer is in no history; the marks of its question move to the next one."""
    history: list[Any] = []
    moved = 0
    for number, (exchange, (question, images)) in enumerate(zip(talk.exchanges, turns, strict=True)):
        row_id = base["row_id"]
        if len(turns) > 1 and isinstance(row_id, str | int):
            row_id = f"{row_id}#{number}"
        if isinstance(question, str):
            question = f"{IMAGE_MARK}\n" * moved + question
            moved = 0
        answer = exchange.answer
        if exchange.trained:
            yield {
                **base,
                "row_id": row_id,
                "question": question,
                "answers": answer,
                "images": images,
                "history": [*history],
            }
        if answer == [] or absent(answer):
            moved += question.count(IMAGE_MARK) if isinstance(question, str) else 0
            continue
        history += [question, answer[0] if isinstance(answer, list) else answer]
