"""Pictures of hosted image services: Gemini's and OpenAI-compatible ones. See `hosted_protocols` for what is spoken.

Hosted models change without notice and do not promise the same picture for the same seed. What the ledger promises is
that a picture is paid for once: its row names the model version that the service stated.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from beholder.errors import EngineError, UserError
from beholder.models.generators.hosted_protocols import LONGEST_PROMPT, Reply, service

LARGEST_ANSWER = 64_000_000
"""Bytes."""
LONGEST_WAIT = 64.0
"""Seconds between two tries, unless the service asks for more."""
MESSAGE_LENGTH = 200


@dataclass(frozen=True)
class HostedSettings:
    """Which service and model, how it is asked, and what it may cost.

    Parameters
    ----------
    service : {"gemini", "openai"}
        The protocol.
    model : str
        The service's name of the model, such as "gemini-2.5-flash-image".
    price : float
        Of one picture, in the plan's currency.
    per_minute : float
        Requests this worker may start in a minute; share an account's limit out over the workers.
    concurrency : int
        Requests in flight at once.
    options : mapping
        Further settings of the service; see `hosted_protocols`.
    address : str, optional
        Of another server that speaks the protocol; https, or http on this machine.
    key_variable : str, optional
        Environment variable that holds the key, if not the service's usual one.
    tries : int
        Of one picture, in all.
    timeout : float
        Seconds until a request is given up.

    Raises
    ------
    UserError
        An unknown service or an impossible value.
    """

    service: str
    model: str
    price: float
    per_minute: float
    concurrency: int = 4
    options: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None
    key_variable: str | None = None
    tries: int = 5
    timeout: float = 120.0

    def __post_init__(self) -> None:
        service(self.service)
        for name in ("per_minute", "concurrency", "tries", "timeout"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name} {getattr(self, name)}", "above 0")
        if self.price < 0:
            raise UserError(f"price {self.price}", "0 or more")
        if not self.model or set(self.model) & set("/?#: \n"):
            raise UserError(f"model {self.model!r}", "the service's plain model name")
        _require_safe(self.url)

    @property
    def url(self) -> str:
        """Address of the service, without a slash at its end."""
        return (self.address or service(self.service).address).rstrip("/")

    def identity(self) -> dict[str, Any]:
        """Service, model and options. Price, limits and address do not change what is asked for."""
        return {"generator": "hosted", "service": self.service, "model": self.model, "options": dict(self.options)}


class BudgetError(EngineError):
    """The money of the plan is spent."""


class Budget:
    """Money that may be spent. Every request is counted before it leaves, and given back if nothing came of it.

    Parameters
    ----------
    limit : float
    spent : float
        What earlier runs spent: the sum of `cost` over the rows of the ledger.
    """

    def __init__(self, limit: float, spent: float = 0.0) -> None:
        self.limit, self.spent = limit, spent
        self._lock = threading.Lock()

    def take(self, amount: float) -> None:
        """Count `amount` as spent; BudgetError if that is more than is left."""
        with self._lock:
            if self.spent + amount > self.limit * (1 + 1e-9):
                raise BudgetError(
                    f"{self.spent:.2f} of {self.limit:.2f} is spent, the next picture costs {amount:.2f}",
                    remedy="raise the plan's budget; what is paid for is kept",
                )
            self.spent += amount

    def give_back(self, amount: float) -> None:
        """Undo `take`: the request brought no picture."""
        with self._lock:
            self.spent -= amount


class RateLimit:
    """Starts at most `per_minute` requests a minute, evenly spaced, from any number of threads."""

    def __init__(self, per_minute: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._gap, self._clock, self._sleep = 60.0 / per_minute, clock, sleep
        self._next = -float("inf")
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may start."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next)
            self._next = start + self._gap
        if start > now:
            self._sleep(start - now)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one prompt.

    `pixels` is RGB, (height, width, 3) uint8, or None where the service refused; `refused` is then its word for why.
    """

    pixels: np.ndarray | None
    refused: str | None
    message: str
    model_version: str | None
    tries: int
    cost: float


class HostedGenerator:
    """Asks a hosted service for pictures.

    Parameters
    ----------
    settings : HostedSettings
    budget : Budget
    rng : Generator
        Spreads the waits between tries.
    clock, sleep : callable
        Seconds that only grow, and waiting; for tests.

    Raises
    ------
    UserError
        The key's environment variable is not set.
    """

    def __init__(
        self,
        settings: HostedSettings,
        *,
        budget: Budget,
        rng: np.random.Generator,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings, self.batch_size, self.budget = settings, settings.concurrency, budget
        self._service = service(settings.service)
        self._rng, self._sleep = rng, sleep
        self._rate = RateLimit(settings.per_minute, clock, sleep)
        self._lock = threading.Lock()
        self._settled: dict[tuple[str, int], Answer | Exception] = {}
        self._open = urllib.request.build_opener(_NoRedirect).open
        self._key()

    def identity(self) -> Mapping[str, Any]:
        """Service, model and options."""
        return self.settings.identity()

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        """Ask for one picture a prompt, several at once.

        Where one prompt fails, what became of all is remembered until it was told: asked again in smaller batches,
        nothing is asked of the service, or paid, twice.

        Raises
        ------
        BudgetError
            The next picture would cost more than is left. `paid` has those that were paid for before.
        EngineError
            A key, model or quota that no request would get past; `paid` as above.
        UserError
            An empty or too long prompt.
        ConnectionError
            A prompt's error outlived all tries; the message has the service's words, without the key.
        """
        for prompt in prompts:
            if not 1 <= len(prompt) <= LONGEST_PROMPT:
                raise UserError(f"a prompt of {len(prompt)} characters", f"1 to {LONGEST_PROMPT}")
        pairs = list(zip(prompts, seeds, strict=True))
        with ThreadPoolExecutor(self.settings.concurrency) as threads:
            calls = [threads.submit(self._remembered, prompt, seed) for prompt, seed in pairs]
        # After all have ended: none is left running when one raises.
        errors = [error for call in calls if (error := call.exception()) is not None]
        if len(pairs) == 1 or not errors:
            for pair in pairs:
                self._settled.pop(pair, None)
        if errors:
            raise next((error for error in errors if isinstance(error, EngineError)), errors[0])
        return [call.result() for call in calls]

    def paid(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer | None]:
        """The answers there are to a batch that raised, None for the other prompts; each is handed over once."""
        found = [self._settled.pop(pair, None) for pair in zip(prompts, seeds, strict=True)]
        return [answer if isinstance(answer, Answer) else None for answer in found]

    def _remembered(self, prompt: str, seed: int) -> Answer:
        found = self._settled.get((prompt, seed))
        if found is None:
            try:
                found = self._ask(prompt, seed)
            except EngineError:  # says nothing of this prompt
                raise
            except Exception as error:
                found = error
            self._settled[prompt, seed] = found
        if isinstance(found, Exception):
            raise found
        return found

    def _ask(self, prompt: str, seed: int) -> Answer:
        price, cost, reply = self.settings.price, 0.0, Reply(error="not asked")
        for attempt in range(1, self.settings.tries + 1):
            self._rate.wait()
            self.budget.take(price)
            try:
                reply, billed = self._call(prompt, seed)
            except BaseException:
                self.budget.give_back(price)
                raise
            if billed:
                cost += price
            else:
                self.budget.give_back(price)
            if reply.error is None:
                pixels = None if reply.image is None else decode(reply.image)
                return Answer(pixels, reply.refused, self._clean(reply.message), reply.model_version, attempt, cost)
            if reply.fatal or not reply.retry:
                break
            if attempt < self.settings.tries:
                self._sleep(self._pause(attempt, reply.wait))
        text = self._clean(f"{reply.error}: {reply.message}")
        if reply.fatal:
            raise EngineError(
                f"{self.settings.service} {self.settings.model}: {text}",
                remedy=f"check the key in {self._variable}, the model's name and the account",
            )
        raise ConnectionError(f"{self.settings.service} {self.settings.model}: {text} (after {attempt} tries)")

    def _call(self, prompt: str, seed: int) -> tuple[Reply, bool]:
        """One request: what was said, and whether it may have been billed."""
        asked = self._service.request(self.settings.model, prompt, seed, self.settings.options)
        headers = {"Content-Type": "application/json", **self._service.headers(self._key())}
        request = urllib.request.Request(
            self.settings.url + asked.path, json.dumps(asked.body).encode(), headers, method="POST"
        )
        try:
            status, found, body = self._send(request)
        except TimeoutError:
            return Reply(error="no answer in time", retry=True), True  # the service may well have drawn it
        except (OSError, http.client.HTTPException) as error:
            unsent = isinstance(error, ConnectionRefusedError | socket.gaierror)
            return Reply(error=f"connection lost: {type(error).__name__}", retry=True), not unsent
        try:
            reply = self._service.reply(status, found, body)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            return Reply(error=f"an answer of another form: {error}", retry=True), False
        if reply.image_url is not None:
            reply = self._download(reply)
        return reply, reply.image is not None

    def _download(self, reply: Reply) -> Reply:
        """Fetch a picture that was answered as an address; without the key."""
        _require_safe(reply.image_url or "")
        try:
            status, _, body = self._send(urllib.request.Request(reply.image_url or ""))
        except (OSError, http.client.HTTPException) as error:
            return Reply(error=f"picture not fetched: {type(error).__name__}", retry=True)
        if status != 200:
            return Reply(error=f"picture not fetched: {status}", retry=True)
        return Reply(image=body, model_version=reply.model_version)

    def _send(self, request: urllib.request.Request) -> tuple[int, dict[str, str], bytes]:
        try:
            with self._open(request, timeout=self.settings.timeout) as answer:
                body = answer.read(LARGEST_ANSWER + 1)
                status, headers = answer.status, answer.headers
        except urllib.error.HTTPError as error:
            body, status, headers = error.read(LARGEST_ANSWER), error.code, error.headers
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else ConnectionError(str(error.reason)) from error
        if len(body) > LARGEST_ANSWER:
            raise ConnectionError(f"an answer of more than {LARGEST_ANSWER} bytes")
        return status, {name.lower(): value for name, value in headers.items()}, body

    def _pause(self, attempt: int, asked: float | None) -> float:
        """Full jitter: anything up to 1, 2, 4, ... seconds; never less than the service asks for."""
        with self._lock:
            drawn = float(self._rng.uniform(0, min(LONGEST_WAIT, 2.0 ** (attempt - 1))))
        return drawn + (asked or 0.0)

    @property
    def _variable(self) -> str:
        return self.settings.key_variable or self._service.key_variable

    def _key(self) -> str:
        """The key, read when it is needed and kept nowhere."""
        key = os.environ.get(self._variable, "").strip()
        if not key:
            raise UserError(f"no key in the environment variable {self._variable}", remedy="set it for the workers")
        return key

    def _clean(self, text: str) -> str:
        """One short line without the key, which some servers repeat in their errors."""
        return " ".join(text.replace(self._key(), "***").split())[:MESSAGE_LENGTH]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _require_safe(url: str) -> None:
    """The key and the pictures travel encrypted, or do not leave this machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not (parts.scheme == "https" or (parts.scheme == "http" and local)) or not parts.hostname:
        raise UserError(f"address {url.split('?')[0]!r}", "https://..., or http:// on this machine")


def decode(data: bytes) -> np.ndarray:
    """Encoded picture to RGB, (height, width, 3) uint8; ArithmeticError if it is none, or cut short."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ArithmeticError(f"the service's picture cannot be read: {error}") from error
