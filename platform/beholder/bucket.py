"""A store's bytes in an S3 bucket, through s3fs: credentials, region and endpoint are those of the AWS environment.

An object is put whole or not at all, so a reader never sees a part. A bucket that throttles, fails or does not answer
is asked again, with growing random waits and one line each time, until the stated patience is over. s3fs and botocore
retry nothing by themselves here: their waits would be silent, and would multiply with ours.
"""

from __future__ import annotations

import copy
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

from beholder.errors import StorageError, StoreError
from beholder.storage import PATIENCE, SCHEME, Storage

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds until a connection, or the next bytes of an answer, count as timed out."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
"""Seconds: the bound of the random wait doubles from the first to the longest."""
TRANSIENT_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
"""HTTP answers after which the same request may succeed; 409 is a put that met another one on its way."""
PRECONDITION_FAILED = 412
MARK = "put"
"""Metadata of an object that was put if absent: which call made it. Lost answers make clients put it again."""
PAGE = 1000
"""Names in one answer to a list, the most that S3 gives."""
AT_ONCE = 32
"""Objects that are read or written side by side."""


class Bucket(Storage):
    """Objects below one prefix. Picklable; connects at first use.

    Parameters
    ----------
    url : str
        `s3://BUCKET/PREFIX`, or `s3://BUCKET`.
    patience : float
        Seconds for which one operation is tried again.
    timeout : float
        Seconds until one attempt counts as timed out.
    say : callable
        Told one line before every new attempt; standard error if not given.
    clock, sleep, jitter : callables
        Seconds on a clock that does not go back; how to wait; a random share of the wait's bound, in [0, 1).

    Raises
    ------
    StoreError
        If the URL names no bucket. An operation raises `StorageError` once patience is over, or if the bucket is not
        there or refuses this user.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: float = PATIENCE,
        timeout: float = TIMEOUT,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._path = url.removeprefix(SCHEME).rstrip("/")
        self.url, self.patience, self.timeout = SCHEME + self._path, patience, timeout
        if not self._path.partition("/")[0]:
            raise StoreError(f"store {url!r} names no bucket", "s3://BUCKET/PREFIX")
        self._say = say or _say
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._gave_up = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_fs"}

    @cached_property
    def _fs(self) -> Any:
        try:
            import s3fs
        except ImportError as error:
            raise StoreError(
                f"store {self.url} needs the library s3fs", remedy="pip install 'beholder[s3]', or give a folder"
            ) from error
        config = {"retries": {"total_max_attempts": 1}, "connect_timeout": self.timeout, "read_timeout": self.timeout}
        fs = s3fs.S3FileSystem(config_kwargs=config, use_listings_cache=False, skip_instance_cache=True)
        fs.retries = 1
        return fs

    def read(self, name: str) -> bytes:
        """See `Storage`."""
        return self._insist(f"read {name}", lambda: self._get(name))

    def write(self, name: str, data: bytes) -> None:
        """See `Storage`."""
        self._insist(f"write {name}", lambda: self._fs.pipe_file(self._at(name), data))

    def create(self, name: str, data: bytes) -> bool:
        """Put with `If-None-Match: *`. A put whose answer was lost may have won: the object then carries our mark."""
        mark = uuid.uuid4().hex

        def put() -> bool:
            try:
                self._fs.pipe_file(self._at(name), data, mode="create", Metadata={MARK: mark})
            except OSError as error:
                if _status(error) != PRECONDITION_FAILED:
                    raise
                return bool(self._call("head_object", name)["Metadata"].get(MARK) == mark)
            return True

        return self._insist(f"create {name}", put)

    def exists(self, name: str) -> bool:
        """See `Storage`."""
        try:
            self._insist(f"look for {name}", lambda: self._call("head_object", name))
        except FileNotFoundError:
            return False
        return True

    def stamps(self, folder: str, suffix: str = "") -> dict[str, str]:
        """By time and digest, as the list of objects tells them."""
        found: dict[str, str] = {}
        after: dict[str, Any] = {"MaxKeys": PAGE}
        bucket, prefix = self._split(f"{folder}/" if folder else "")
        while True:
            page = self._insist(
                f"list {folder}",
                lambda: self._fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, **after),
            )
            found |= {
                entry["Key"]: f"{entry['LastModified'].isoformat()}-{entry['ETag']}"
                for entry in page.get("Contents", ())
                if entry["Key"].endswith(suffix)
            }
            if not page.get("IsTruncated"):
                break
            after["ContinuationToken"] = page["NextContinuationToken"]
        length = len(self._at("")) - len(bucket) - 1
        return {key[length:]: found[key] for key in sorted(found)}

    def delete(self, name: str) -> None:
        """See `Storage`."""
        self._insist(f"delete {name}", lambda: self._call("delete_object", name))

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        """See `Storage`; some are fetched ahead."""
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for start in range(0, len(names), AT_ONCE):
                yield from threads.map(self.read, names[start : start + AT_ONCE])

    def write_many(self, blobs: Iterable[tuple[str, bytes]]) -> None:
        """See `Storage`; some are written side by side."""
        rest = iter(blobs)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            while some := list(islice(rest, AT_ONCE)):
                list(threads.map(lambda blob: self.write(*blob), some))

    def below(self, name: str) -> Bucket:
        """See `Storage`; over the same connections."""
        found = copy.copy(self)
        found._path, found.url = self._at(name), f"{self.url}/{name}"
        found.__dict__["_fs"] = self._fs
        return found

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _split(self, name: str) -> tuple[str, str]:
        """Bucket and key."""
        bucket, _, key = self._at(name).partition("/")
        return bucket, key

    def _get(self, name: str) -> bytes:
        return bytes(
            self._fs.cat_file(self._at(name), max_concurrency=1)
        )  # in one request: more would ask for the size

    def _call(self, method: str, name: str) -> Any:
        bucket, key = self._split(name)
        return self._fs.call_s3(method, Bucket=bucket, Key=key)

    def _insist(self, what: str, attempt: Callable[[], T]) -> T:
        """Try until it works, the trouble is none that passes, or patience is over.

        Once it is over, the next calls (of those who clean up) do not wait until one has worked.
        """
        end, bound = self._clock() + (0.0 if self._gave_up else self.patience), FIRST_WAIT
        while True:
            try:
                found = attempt()
                self._gave_up = False
                return found
            except Exception as error:
                trouble = _trouble(error)
                if trouble is None:
                    if (refusal := self._refusal(what, error)) is None:
                        raise
                    raise refusal from error
            wait = bound * self._jitter()
            if self._clock() + wait > end:
                self._gave_up = True
                raise StorageError(
                    f"{self.url}: could not {what}: {trouble}, for {self.patience:.0f} s",
                    remedy="is the bucket reachable and below its request rate? The same command goes on from here",
                )
            self._say(f"{self.url}: {trouble}; trying to {what} again in {wait:.1f} s")
            self._sleep(wait)
            bound = min(2 * bound, LONGEST_WAIT)

    def _refusal(self, what: str, error: Exception) -> StorageError | None:
        """What the user is told about trouble that does not pass; None for a missing object and for bugs."""
        from botocore.exceptions import BotoCoreError

        code = _code(error)
        if code == "NoSuchBucket":
            bucket = self._path.partition("/")[0]
            return StorageError(f"there is no bucket {bucket!r}", remedy="make it, or give another --store")
        if isinstance(error, PermissionError):
            return StorageError(
                f"{self.url}: may not {what}: {error}", remedy="check the AWS credentials and the bucket's policy"
            )
        if isinstance(error, BotoCoreError) or (isinstance(error, OSError) and code not in (None, "404", "NoSuchKey")):
            return StorageError(
                f"{self.url}: could not {what}: {_line(error)}", remedy="check the AWS credentials, region and endpoint"
            )
        return None


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _response(error: BaseException) -> dict[str, Any]:
    """What the server answered, from an error of botocore or from the one that s3fs made of it."""
    for each in (error, error.__cause__):
        if isinstance(found := getattr(each, "response", None), dict):
            return found
    return {}


def _status(error: BaseException) -> int | None:
    status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return None if status is None else int(status)


def _code(error: BaseException) -> str | None:
    code = _response(error).get("Error", {}).get("Code")
    return None if code is None else str(code)


def _trouble(error: Exception) -> str | None:
    """One phrase for trouble that may pass; None for any other."""
    from aiohttp import ClientError
    from botocore.exceptions import ConnectionError as NoConnectionError
    from botocore.exceptions import HTTPClientError
    from botocore.parsers import ResponseParserError

    if (status := _status(error)) in TRANSIENT_STATUS:
        return f"it answers {status} {_code(error)}"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "it does not answer in time"
    broken = (HTTPClientError, NoConnectionError, ResponseParserError, ClientError, ConnectionError)
    if isinstance(error, broken):
        return f"the connection failed ({type(error).__name__})"
    return None


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
