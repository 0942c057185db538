"""The endpoint judge against a server on this machine that misbehaves in every way: nulls with a reason, never zeros."""

import time

import pytest

from masters.config.score import EndpointJudge as Config
from masters.judging.endpoint import EndpointError, EndpointModel
from masters.judging.judges import Item, PromptedJudge
from tests import loopback
from tests.loopback import honest, served

pytestmark = pytest.mark.engine

NULL, RIGHT = None, 1


def item(response, key="a/1"):
    return Item(key, "What colour?", ["red"], "text", response)


def judge(url, workers=1, **fields):
    config = Config(type="endpoint", base_url=url, model="m", **{"attempts": 2, "timeout_seconds": 1, **fields})
    return PromptedJudge("endpoint", EndpointModel(config, workers), config, seed=0)


def first(does):
    """The first request gets that, the others an honest answer."""
    return lambda number, body: does if number == 0 else honest(number, body)


def always(does):
    """Everything about the first question gets that; others are answered."""

    def script(number, body):
        said = loopback.user_text(body)
        if said == "Answer with 1.":
            return "1"
        return does if "\nred\n" in said or "same" in said else honest(number, body)

    return script


def dead(does):
    return lambda number, body: does


@pytest.mark.parametrize(
    ("script", "value", "reason"),
    [
        (honest, RIGHT, "the same"),
        (first(loopback.too_many(0.1)), RIGHT, "the same"),
        (first(loopback.broken(503)), RIGHT, "the same"),
        (first(loopback.hang_up), RIGHT, "the same"),
        (first(loopback.slow(1.5)), RIGHT, "the same"),
        (first("<answer>perhaps</answer>"), RIGHT, "the same"),  # null, asked again
        (always(loopback.too_many(0.1)), NULL, "HTTP 429"),
        (always(loopback.broken(500)), NULL, "HTTP 500"),
        (always(loopback.broken(400, "context length exceeded")), NULL, "context length exceeded"),
        (always(loopback.hang_up), NULL, "no answer: "),
        (always(loopback.half), NULL, "no answer: "),
        (always(loopback.slow(1.5)), NULL, "within 1 seconds"),
        (always(loopback.trickle), NULL, "within 1 seconds"),
        (always(loopback.page), NULL, "no answer of an OpenAI-compatible server"),
        (always(loopback.odd({"choices": []})), NULL, "no answer of an OpenAI-compatible server"),
        (always(loopback.odd({"choices": [{"message": {"content": 0}}]})), NULL, "no answer of an OpenAI-compatible"),
        (always(loopback.odd([0])), NULL, "no answer of an OpenAI-compatible server"),
        (dead("I cannot say"), NULL, "I cannot say"),
        (always(""), NULL, ""),
        (lambda number, body: "1" if "<overall_summary " in loopback.user_text(body) else "<answer>0</answer>", NULL, ""),
    ],
)  # fmt: skip
def test_what_fails_is_null_with_its_reason(script, value, reason):
    with served(script) as server:
        (verdict,) = judge(server.url).judge([item("red")])
    assert verdict.value is value
    assert reason in verdict.explanation


def test_a_zero_is_what_the_judge_says_and_nothing_else():
    with served(honest) as server:
        verdicts = judge(server.url).judge([item("red"), item("blue"), item("red", key="a/2")])
    assert [v.value for v in verdicts] == [1, 0, 1]


@pytest.mark.parametrize("last", ["bad", "red"])
def test_one_bad_request_among_good_ones(last):
    def script(number, body):
        if f"\n{last}\n" in loopback.user_text(body):
            time.sleep(0.3)
        return loopback.broken(400) if "\nbad\n" in loopback.user_text(body) else honest(number, body)

    with served(script) as server:
        verdicts = judge(server.url).judge([item("red"), item("bad"), item("blue")])
        assert [v.value for v in verdicts] == [1, None, 0]
        assert len(server.seen) == 5  # a request that is at fault is sent once: it will not get better


def test_same_questions_seeds_and_settings_and_the_key_goes_along(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "open sesame")
    asked = []
    for _ in range(2):
        with served(honest) as server:
            judge(server.url, key_env="JUDGE_KEY", max_tokens=33).judge([item("red"), item("blue")])
        asked.append(sorted(map(repr, server.seen)))
        assert set(server.keys) == {"Bearer open sesame"}
    assert asked[0] == asked[1]
    assert {body["max_tokens"] for body in server.seen} == {33, 16}
    assert {body["temperature"] for body in server.seen} == {0.0}
    assert len({body["seed"] for body in server.seen}) == 4


def test_the_pause_that_a_server_asks_for_is_kept():
    with served(first(loopback.too_many(1))) as server:
        judge(server.url).judge([item("red")])
    assert 1 <= server.times[1] - server.times[0] < 3


@pytest.mark.parametrize(
    ("fields", "workers", "most"), [({"max_concurrency": 4}, 1, 4), ({"max_concurrency": 8}, 4, 2)]
)
def test_requests_in_flight_are_bounded_over_all_workers(fields, workers, most):
    def script(number, body):
        time.sleep(0.05)
        return honest(number, body)

    with served(script) as server:
        judge(server.url, workers, **fields).judge([item("red", f"a/{i}") for i in range(16)])
    assert server.most_inside == most


@pytest.mark.parametrize(
    ("fields", "workers", "script", "spacing"),
    [
        ({"requests_per_minute": 600}, 1, honest, 0.1),
        ({"requests_per_minute": 1200}, 4, honest, 0.2),
        ({"requests_per_minute": 600}, 1, lambda n, body: honest(n, body) if n % 2 else loopback.broken(503), 0.1),
        ({"tokens_per_minute": 60_000}, 1, honest, 0.1),  # of 100 tokens each, as the server says
    ],
)
def test_rate_limits_are_kept_with_repeated_requests_counted(fields, workers, script, spacing):
    with served(script) as server:
        judge(server.url, workers, attempts=4, **fields).judge([item("red", f"a/{i}") for i in range(4)])
    assert len(server.times) >= 8
    assert (server.times[-1] - server.times[0]) / (len(server.times) - 1) >= 0.95 * spacing
    if "requests_per_minute" in fields:
        gaps = [b - a for a, b in zip(server.times, server.times[1:], strict=False)]
        assert min(gaps) > spacing / 3  # evenly, but for the scheduler


def test_a_dead_server_ends_soon_with_an_error_that_says_what_to_do():
    with served(honest) as server:
        url = server.url
    for responses in (1, 5000):
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"score\.judge: http://127.* does not answer .*Run again to go on"):
            judge(url).judge([item("red", f"a/{i}") for i in range(responses)])
        assert time.monotonic() - began < 30


def test_a_wrong_key_ends_at_once_and_a_missing_one_before(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "wrong")
    with served(dead(loopback.broken(401))) as server:
        with pytest.raises(EndpointError, match=r"HTTP 401: .*Is the key in JUDGE_KEY right\?"):
            judge(server.url, key_env="JUDGE_KEY", max_concurrency=1).judge([item("red", f"a/{i}") for i in range(9)])
        assert len(server.seen) == 1
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(EndpointError, match="JUDGE_KEY: is not set"):
        judge("http://127.0.0.1:9/v1", key_env="JUDGE_KEY")


@pytest.mark.parametrize("does", [loopback.page, loopback.broken(500), loopback.too_many(0.1), loopback.hang_up])
def test_a_server_that_answers_nobody_gives_no_verdicts_but_an_error(does):
    with served(dead(does)) as server, pytest.raises(EndpointError, match="does not answer"):
        judge(server.url).judge([item("red")])


def test_what_was_lost_while_the_server_was_away_is_asked_again_at_the_end():
    def script(number, body):
        return loopback.broken(503) if 10 <= number < 20 else honest(number, body)

    with served(script) as server:
        verdicts = judge(server.url, attempts=1, max_concurrency=1).judge([item("red", f"a/{i}") for i in range(30)])
    assert [v.value for v in verdicts] == [1] * 30


@pytest.mark.parametrize("failures", [19, 20])
def test_twenty_failures_in_a_row_are_enough(failures):
    def script(number, body):
        return loopback.broken(400) if number < failures else honest(number, body)

    with served(script) as server:
        mine, items = judge(server.url, max_concurrency=1), [item("red", f"a/{i}") for i in range(30)]
        if failures == 20:
            with pytest.raises(EndpointError):
                mine.judge(items)
            assert len(server.seen) == 20
        else:
            assert [v.value for v in mine.judge(items)] == [None] * 19 + [1] * 11


@pytest.mark.parametrize(
    "url", ["judge.example/v1", "http://", "https://me:secret@host/v1", "https://host/v1?key=1", "ftp://a/v1"]
)
def test_addresses_that_are_refused(url):
    with pytest.raises(ValueError, match=r"Write https://HOST/v1|key_env"):
        Config(type="endpoint", base_url=url, model="m")


@pytest.mark.parametrize("key", ["sk-abcdef0123456789", "my key"])
def test_a_key_itself_is_refused_where_its_variables_name_belongs(key):
    with pytest.raises(ValueError, match="key_env"):
        Config(type="endpoint", base_url="https://host/v1", model="m", key_env=key)
