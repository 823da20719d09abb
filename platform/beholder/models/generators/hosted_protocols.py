"""What hosted image services ask for and answer: requests and replies as data, without any network.

Gemini: `models.generateContent` of the Gemini API, version v1beta, https://ai.google.dev/api/generate-content, with
`responseModalities`, `imageConfig` and `seed`; errors as in https://ai.google.dev/gemini-api/docs/troubleshooting.
OpenAI: `POST /images/generations`, API version v1, https://platform.openai.com/docs/api-reference/images/create;
errors as in https://platform.openai.com/docs/guides/error-codes. Both as documented in November 2026.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from beholder.errors import UserError

LONGEST_PROMPT = 32_000
"""Characters, the largest a service documents."""
RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
"""HTTP states after which the same request may succeed."""


class Request(NamedTuple):
    """One call: path below the service's address, headers without the key, JSON body."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service said.

    Exactly one of `image` (encoded bytes), `image_url` (where they lie), `refused` (the service's own word for why it
    drew nothing) and `error` is set. An `error` may be worth another try, after `wait` seconds if the service said so;
    a `fatal` one would hit every request.
    """

    image: bytes | None = None
    image_url: str | None = None
    refused: str | None = None
    error: str | None = None
    message: str = ""
    retry: bool = False
    wait: float | None = None
    fatal: bool = False
    model_version: str | None = None


class Service(Protocol):
    """The shape of one service's requests and replies."""

    name: str
    address: str
    key_variable: str

    def headers(self, key: str) -> dict[str, str]:
        """Headers that carry the key."""
        ...

    def request(self, model: str, prompt: str, seed: int, options: Mapping[str, Any]) -> Request:
        """The call for one picture."""
        ...

    def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
        """What an answer means."""
        ...


class Gemini:
    """Pictures of Gemini models ("Nano Banana").

    Options: `aspectRatio` such as "1:1", `imageSize` such as "1K"; anything else goes into `generationConfig`.
    """

    name = "gemini"
    address = "https://generativelanguage.googleapis.com/v1beta"
    key_variable = "GEMINI_API_KEY"

    def headers(self, key: str) -> dict[str, str]:
        """The key's header."""
        return {"x-goog-api-key": key}

    def request(self, model: str, prompt: str, seed: int, options: Mapping[str, Any]) -> Request:
        """One candidate, a picture and no text. Seeds are 32-bit signed there, so the low 31 bits are sent."""
        image = {name: options[name] for name in ("aspectRatio", "imageSize") if name in options}
        other = {name: value for name, value in options.items() if name not in image}
        config = {"responseModalities": ["IMAGE"], "candidateCount": 1, "seed": seed & 0x7FFFFFFF, **other}
        if image:
            config["imageConfig"] = image
        body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}], "generationConfig": config}
        return Request(f"/models/{model}:generateContent", body)

    def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
        """A picture among the parts, a blocked prompt, a blocked picture, or an error."""
        found = _json(body)
        if status != 200 or found is None:
            return _error(status, headers, found, body)
        version = found.get("modelVersion")
        if reason := (found.get("promptFeedback") or {}).get("blockReason"):
            return Reply(refused=str(reason), message="the prompt was blocked", model_version=version)
        candidate = (found.get("candidates") or [{}])[0]
        parts = (candidate.get("content") or {}).get("parts") or []
        shown = [part for part in parts if not part.get("thought")]
        for part in shown:
            data = part.get("inlineData") or part.get("inline_data")
            if data:
                return _decoded(data.get("data"), version)
        reason = str(candidate.get("finishReason") or "NO_IMAGE")
        text = " ".join(str(part["text"]) for part in shown if "text" in part)
        message = str(candidate.get("finishMessage") or text)
        return Reply(refused="NO_IMAGE" if reason == "STOP" else reason, message=message, model_version=version)


class OpenAI:
    """Pictures of OpenAI's models, and of the many servers that speak the same protocol.

    Options go into the request: `size` such as "1024x1024", `quality`, `response_format`. Seeds are not part of the
    protocol; servers that take one get it by the option `seed_field`.
    """

    name = "openai"
    address = "https://api.openai.com/v1"
    key_variable = "OPENAI_API_KEY"
    _refusals = frozenset({"moderation_blocked", "content_policy_violation", "image_content_policy_violation"})

    def headers(self, key: str) -> dict[str, str]:
        """The key's header."""
        return {"Authorization": f"Bearer {key}"}

    def request(self, model: str, prompt: str, seed: int, options: Mapping[str, Any]) -> Request:
        """One picture."""
        more = {name: value for name, value in options.items() if name != "seed_field"}
        if "seed_field" in options:
            more[str(options["seed_field"])] = seed
        return Request("/images/generations", {"model": model, "prompt": prompt, "n": 1, **more})

    def reply(self, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
        """A picture as base64 or as an address, a moderated prompt or picture, or an error."""
        found = _json(body)
        if status != 200 or found is None:
            error = (found or {}).get("error")
            error = error if isinstance(error, Mapping) else {}
            code = str(error.get("code"))
            if code in self._refusals:
                return Reply(refused=code, message=str(error.get("message", "")))
            if code in ("insufficient_quota", "billing_hard_limit_reached"):
                return Reply(error=f"{status} {code}", message="the account has no quota left", fatal=True)
            return _error(status, headers, found, body)
        data = (found.get("data") or [{}])[0]
        version = found.get("model")
        if data.get("b64_json"):
            return _decoded(data["b64_json"], version)
        if data.get("url"):
            return Reply(image_url=str(data["url"]), model_version=version)
        return Reply(error="an answer without a picture", retry=True)


SERVICES: Mapping[str, Service] = {"gemini": Gemini(), "openai": OpenAI()}


def service(name: str) -> Service:
    """A service by name; UserError for an unknown one."""
    if name not in SERVICES:
        raise UserError(f"hosted service {name!r}", ", ".join(SERVICES))
    return SERVICES[name]


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _decoded(text: Any, version: str | None) -> Reply:
    try:
        return Reply(image=base64.b64decode(text, validate=True), model_version=version)
    except (TypeError, ValueError):
        return Reply(error="a picture that is not base64", retry=True)


def _error(status: int, headers: Mapping[str, str], found: Mapping[str, Any] | None, body: bytes) -> Reply:
    """An HTTP error of either service: `{"error": {"message", "code" or "status", "details"}}`, or anything else."""
    error = (found or {}).get("error")
    if isinstance(error, Mapping):
        name, message = str(error.get("status") or error.get("code") or ""), str(error.get("message") or "")
    else:
        name, message = "", body[:200].decode(errors="replace")
    if status == 200:
        return Reply(error="an answer that is not JSON", message=message, retry=True)
    return Reply(
        error=f"{status} {name}".strip(),
        message=message,
        retry=status in RETRIED,
        wait=_wait(headers, error),
        # Wrong key, no right to the model, unknown model: every other request would fail the same way.
        fatal=status in (401, 403, 404) or "API key not valid" in message,
    )


def _wait(headers: Mapping[str, str], error: Any) -> float | None:
    """Seconds the service asks to wait: the `Retry-After` header, or Gemini's `RetryInfo`."""
    asked = [headers.get("retry-after")]
    if isinstance(error, Mapping):
        details = [d for d in error.get("details") or [] if isinstance(d, Mapping)]
        asked += [str(detail.get("retryDelay")).removesuffix("s") for detail in details if "retryDelay" in detail]
    for value in asked:
        try:
            seconds = float(value) if value else None
        except ValueError:  # an HTTP date; waiting as usual does as well
            continue
        if seconds is not None and seconds >= 0:
            return seconds
    return None
