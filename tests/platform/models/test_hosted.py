"""Hosted services, against a server on this machine that speaks their protocols."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beholder.engine.inprocess import InProcess
from beholder.engine.progress import Quiet
from beholder.engine.run import Engine
from beholder.errors import EngineError, UserError
from beholder.models.generators.hosted import Budget, BudgetError, HostedGenerator, HostedSettings, RateLimit, decode
from beholder.models.hosted_stage import GenerateHosted
from beholder.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from hosted_server import KEY, Played, Trouble, picture_of, png_of, serve

SERVICES = ("gemini", "openai")
OVERLOADED = Trouble(503, {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}})


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for variable in ("GEMINI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, KEY)
    with serve() as played:
        yield played


def settings_for(server: Played, service: str, **changed: Any) -> HostedSettings:
    plain: dict[str, Any] = {"model": "painter-1", "price": 0.04, "per_minute": 60_000, "concurrency": 1}
    return HostedSettings(service, address=server.address, **(plain | changed))


def generator(
    settings: HostedSettings, time: Time | None = None, budget: float = 10.0, spent: float = 0.0
) -> HostedGenerator:
    time = time or Time()
    rng = np.random.default_rng(1)
    return HostedGenerator(settings, budget=Budget(budget, spent), rng=rng, clock=time.clock, sleep=time.sleep)


@pytest.mark.parametrize("service", SERVICES)
def test_a_picture_comes_back_as_drawn(server: Played, service: str) -> None:
    answer = generator(settings_for(server, service)).generate(["a lake 山 🏔"], [2**40 + 5])[0]
    assert answer.pixels is not None
    np.testing.assert_array_equal(answer.pixels, picture_of("a lake 山 🏔"))
    assert (answer.refused, answer.tries, answer.cost) == (None, 1, 0.04)


def test_requests_have_the_documented_form(server: Played) -> None:
    options = {"aspectRatio": "3:2", "imageSize": "1K", "temperature": 0.5}
    generator(settings_for(server, "gemini", options=options)).generate(["x"], [2**31 + 7])
    generator(settings_for(server, "openai", options={"size": "256x256", "seed_field": "seed"})).generate(["x"], [7])
    gemini, openai = server.asked
    assert gemini["path"] == "/models/painter-1:generateContent"
    assert gemini["body"]["generationConfig"] == {
        "responseModalities": ["IMAGE"], "candidateCount": 1, "seed": 7, "temperature": 0.5,
        "imageConfig": {"aspectRatio": "3:2", "imageSize": "1K"},
    }  # fmt: skip
    assert openai["body"] == {"model": "painter-1", "prompt": "x", "n": 1, "size": "256x256", "seed": 7}


def test_a_picture_given_as_an_address_is_fetched_without_the_key(server: Played) -> None:
    settings = settings_for(server, "openai", options={"response_format": "url"})
    answer = generator(settings).generate(["lake"], [1])[0]
    np.testing.assert_array_equal(answer.pixels, picture_of("lake"))  # the server refuses a GET with a key


REFUSALS = [
    ("gemini", 200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, "PROHIBITED_CONTENT"),
    ("gemini", 200, {"candidates": [{"finishReason": "IMAGE_SAFETY", "finishMessage": "Blocked."}]}, "IMAGE_SAFETY"),
    (
        "gemini",
        200,
        {"candidates": [{"content": {"parts": [{"text": "I cannot draw that."}]}, "finishReason": "STOP"}]},
        "NO_IMAGE",
    ),
    ("gemini", 200, {"candidates": []}, "NO_IMAGE"),
    ("openai", 400, {"error": {"code": "moderation_blocked", "message": "Rejected by safety."}}, "moderation_blocked"),
    ("openai", 400, {"error": {"code": "content_policy_violation", "message": ""}}, "content_policy_violation"),
]


@pytest.mark.parametrize(("service", "status", "body", "reason"), REFUSALS)
def test_a_refusal_is_a_row_of_its_own(
    server: Played, tmp_path: Path, service: str, status: int, body: Any, reason: str
) -> None:
    server.by_prompt["gore"] = Trouble(status, body)
    stage = GenerateHosted(settings_for(server, service, concurrency=2), budget=1.0)
    store = Store(tmp_path)
    stage.setup(store)
    items = [{"prompt": p, "seed": 1, "_key": k * 64} for p, k in (("gore", "a"), ("lake", "b"))]
    refused, drawn = stage.process(items)
    assert (refused["refused"], refused["path"], refused["sha256"], refused["cost"]) == (reason, None, None, 0.0)
    assert len(server.asked) == 2  # a refusal is not asked for again
    assert drawn["refused"] is None
    np.testing.assert_array_equal(decode(store.path(drawn["path"]).read_bytes()), picture_of("lake"))
    assert drawn["model_version"] == ("gemini-image-007" if service == "gemini" else None)


@pytest.mark.parametrize("service", SERVICES)
def test_troubles_are_waited_out_with_jitter(server: Played, service: str) -> None:
    server.troubles += [OVERLOADED, Trouble(500, b"<html>oops</html>"), Trouble(0, None, drop=True), OVERLOADED]
    time = Time()
    settings = settings_for(server, service)
    answer = generator(settings, time).generate(["lake"], [1])[0]
    assert answer.pixels is not None
    assert answer.tries == 5
    assert answer.cost == pytest.approx(0.08)  # the lost connection may have been billed
    pauses = [wait for wait in time.waits if wait > 60 / settings.per_minute]
    assert len(pauses) == 4
    for pause, most in zip(pauses, (1, 2, 4, 8), strict=True):
        assert 0 < pause < most
    assert len(set(pauses)) == 4


def test_waits_are_drawn_from_the_given_stream(server: Played) -> None:
    settings = settings_for(server, "gemini")
    waits = []
    for _ in range(2):
        server.troubles += [OVERLOADED, OVERLOADED]
        time = Time()
        generator(settings, time).generate(["lake"], [1])
        waits.append(time.waits)
    assert waits[0] == waits[1]


@pytest.mark.parametrize(
    ("service", "trouble"),
    [
        ("openai", Trouble(429, {"error": {"code": "rate_limit_exceeded", "message": "slow"}}, {"Retry-After": "37"})),
        (
            "gemini",
            Trouble(
                429,
                {
                    "error": {
                        "code": 429,
                        "status": "RESOURCE_EXHAUSTED",
                        "message": "quota",
                        "details": [
                            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"},
                        ],
                    }
                },
            ),
        ),
    ],
)
def test_the_wait_a_service_asks_for_is_kept(server: Played, service: str, trouble: Trouble) -> None:
    server.troubles.append(trouble)
    time = Time()
    generator(settings_for(server, service), time).generate(["lake"], [1])
    assert 37 <= max(time.waits) <= 38


def test_what_no_request_would_get_past_stops_at_once(server: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = Trouble(429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}})
    server.troubles.append(quota)
    with pytest.raises(EngineError, match=r"insufficient_quota.*check the key in OPENAI_API_KEY"):
        generator(settings_for(server, "openai")).generate(["x"], [1])
    with pytest.raises(EngineError, match="404 NOT_FOUND"):
        generator(HostedSettings("openai", "m", 0.0, 6000, address=f"{server.address}/v9")).generate(["x"], [1])
    assert len(server.asked) == 2
    monkeypatch.delenv("GEMINI_API_KEY")
    with pytest.raises(UserError, match="no key in the environment variable GEMINI_API_KEY"):
        generator(settings_for(server, "gemini"))


@pytest.mark.parametrize("service", SERVICES)
def test_the_key_is_told_to_nobody(server: Played, monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    secret = "sk-very-secret-1234567"
    monkeypatch.setenv("GEMINI_API_KEY", secret)
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    client = generator(settings_for(server, service))
    with pytest.raises(EngineError) as caught:
        client.generate(["x"], [1])
    server.troubles += [Trouble(500, {"error": {"message": f"failed for {secret}", "code": 500}})] * 5
    with pytest.raises(ConnectionError, match="after 5 tries") as again:
        client.generate(["x"], [1])
    assert "***" in str(again.value)
    stage = GenerateHosted(client.settings, budget=1.0)
    shown = [str(caught.value), str(again.value), repr(client.settings), repr(stage), str(stage.identity())]
    assert not any(secret in text for text in shown)
    assert secret.encode() not in pickle.dumps(stage)


def test_a_redirect_is_not_followed(server: Played) -> None:
    server.troubles.append(Trouble(307, b"", {"Location": f"{server.address}/images/generations"}))
    with pytest.raises(ConnectionError, match="307"):
        generator(settings_for(server, "openai")).generate(["x"], [1])
    assert len(server.asked) == 1


def test_the_budget_is_never_passed(server: Played) -> None:
    client = generator(settings_for(server, "gemini"), budget=1.0, spent=0.9)
    client.generate(["a"], [1])
    client.generate(["b"], [1])
    assert client.budget.spent == pytest.approx(0.98)
    with pytest.raises(BudgetError, match=r"0\.98 of 1\.00 is spent, the next picture costs 0\.04"):
        client.generate(["c"], [1])
    assert len(server.asked) == 2
    assert isinstance(BudgetError("x"), EngineError)


def test_a_failed_neighbour_does_not_make_a_picture_cost_twice(server: Played) -> None:
    """The engine halves a batch that raised and asks again for its parts."""
    bad = Trouble(400, {"error": {"code": "invalid_value", "message": "prompt too odd"}})
    server.by_prompt["bad"] = bad
    client = generator(settings_for(server, "openai", concurrency=4))
    with pytest.raises(ConnectionError, match="400 invalid_value: prompt too odd"):
        client.generate(["a", "b", "bad", "c"], [1, 1, 1, 1])
    assert [a.refused for a in client.generate(["a", "b"], [1, 1])] == [None, None]
    assert client.generate(["c"], [1])[0].cost == 0.04
    assert sorted(request["body"]["prompt"] for request in server.asked) == ["a", "b", "bad", "c"]
    assert client.budget.spent == pytest.approx(0.12)


PROMPTS = [f"lake {n}" for n in range(10)]


def draw_all(store: Store, settings: HostedSettings, budget: float) -> Any:
    """All prompts through the engine, by a process that starts now; what the ledger's rows cost is spent."""
    spent = sum(row.get("cost") or 0.0 for row in store.ledger_rows("generate"))
    with Engine(store, InProcess(store), Quiet(), max_failed=0.5) as engine:
        return engine.run(GenerateHosted(settings, budget, spent), [{"prompt": p, "seed": 1} for p in PROMPTS])


def asked(server: Played) -> list[str]:
    return [request["body"]["prompt"] for request in server.asked]


def test_pictures_paid_for_before_the_budget_ends_are_kept_and_never_paid_again(server: Played, tmp_path: Path) -> None:
    """The money ends after two of a batch of four: six are drawn and in the ledger; the next run pays for four."""
    store, settings = Store(tmp_path), settings_for(server, "openai", concurrency=4)
    with pytest.raises(BudgetError, match=r"0\.24 of 0\.24 is spent, the next picture costs 0\.04"):
        draw_all(store, settings, budget=0.24)
    rows = list(store.ledger_rows("generate"))
    assert len(asked(server)) == len(rows) == 6
    assert {row["prompt"] for row in rows} == set(asked(server))
    for row in rows:
        np.testing.assert_array_equal(decode(store.path(row["path"]).read_bytes()), picture_of(row["prompt"]))
    with pytest.raises(BudgetError):  # no more money, no more requests
        draw_all(store, settings, budget=0.24)
    assert len(asked(server)) == 6
    run = draw_all(store, settings, budget=0.40)
    assert (run.done, run.computed) == (6, 4)
    assert sorted(asked(server)) == sorted(PROMPTS)
    assert sum(row["cost"] for row in run.rows) == pytest.approx(0.40)


def test_pictures_paid_for_beside_a_request_that_stops_the_run_are_kept(server: Played, tmp_path: Path) -> None:
    quota = {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}
    server.by_prompt[PROMPTS[2]] = Trouble(429, quota)
    store, settings = Store(tmp_path), settings_for(server, "openai", concurrency=4)
    with pytest.raises(EngineError, match="insufficient_quota"):
        draw_all(store, settings, budget=1.0)
    assert {row["prompt"] for row in store.ledger_rows("generate")} == {PROMPTS[i] for i in (0, 1, 3)}
    server.by_prompt.clear()
    assert draw_all(store, settings, budget=1.0).computed == 7
    assert Counter(asked(server)) == Counter(PROMPTS) + Counter([PROMPTS[2]])


def test_a_prompt_that_fails_is_asked_for_once_although_its_batch_is_halved(server: Played, tmp_path: Path) -> None:
    server.by_prompt[PROMPTS[1]] = Trouble(400, {"error": {"code": "invalid_value", "message": "too odd"}})
    server.by_prompt[PROMPTS[2]] = Trouble(200, {"data": [{"b64_json": "AAAA"}]})  # paid for, and no picture
    store, settings = Store(tmp_path), settings_for(server, "openai", concurrency=4)
    run = draw_all(store, settings, budget=1.0)
    assert [row["status"] for row in run.rows] == ["ok", "failed", "failed", *["ok"] * 7]
    assert "400 invalid_value: too odd" in run.rows[1]["error"]
    assert "cannot be read" in run.rows[2]["error"]
    assert run.rows[1]["trace"] != run.rows[2]["trace"]
    assert sorted(asked(server)) == sorted(PROMPTS)


def test_requests_run_side_by_side_and_answers_keep_their_order(server: Played) -> None:
    import threading

    server.gate = threading.Barrier(4)  # nobody is answered before all four have arrived
    answers = generator(settings_for(server, "openai", concurrency=4)).generate(["a", "b", "c", "d"], [1] * 4)
    assert server.most_in_flight == 4
    for prompt, answer in zip("abcd", answers, strict=True):
        np.testing.assert_array_equal(answer.pixels, picture_of(prompt))


def test_requests_are_spaced_evenly() -> None:
    time = Time()
    limit = RateLimit(30, time.clock, time.sleep)
    starts = []
    for _ in range(5):
        limit.wait()
        starts.append(time.now)
    np.testing.assert_allclose(np.diff(starts), 2.0)
    time.now += 60  # a pause is not saved up for a burst
    for _ in range(3):
        limit.wait()
        starts.append(time.now)
    np.testing.assert_allclose(np.diff(starts[5:]), 2.0)


def test_answers_that_are_no_pictures_are_errors(server: Played) -> None:
    import base64

    cut = base64.b64encode(png_of("lake")[:60]).decode()
    server.troubles.append(Trouble(200, {"data": [{"b64_json": cut}]}))
    with pytest.raises(ArithmeticError, match="cannot be read"):
        generator(settings_for(server, "openai")).generate(["lake"], [1])
    server.troubles += [
        Trouble(200, b"not json"),
        Trouble(200, {"data": [{"b64_json": "§"}]}),
        Trouble(200, {"data": {"a": 1}}),
    ]
    assert generator(settings_for(server, "openai")).generate(["lake"], [1])[0].tries == 4


def test_settings_that_cannot_be_are_refused() -> None:
    for change, message in [
        ({"service": "mail"}, "hosted service 'mail'"),
        ({"per_minute": 0}, "per_minute 0"),
        ({"price": -1}, "price -1"),
        ({"model": "a/../b"}, "model"),
        ({"address": "http://images.example"}, "https"),
        ({"address": "ftp://127.0.0.1"}, "https"),
    ]:
        with pytest.raises(UserError, match=message):
            HostedSettings(**({"service": "gemini", "model": "m", "price": 1.0, "per_minute": 1} | change))
    same = HostedSettings("gemini", "m", 1.0, 1)
    other = HostedSettings("gemini", "m", 2.0, 9, address="https://proxy.example/v1beta", concurrency=9)
    assert same.identity() == other.identity()
