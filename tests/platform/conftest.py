"""An S3 server on this machine, and a proxy before it that can throttle, stall and lose answers."""

from __future__ import annotations

import http.client
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@contextmanager
def serving(server):
    """Let a server answer in the background."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(30)


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """One request at a time, so that a conditional put is atomic, as it is on S3."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with serving(make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))) as server:
        yield server.server_port


@pytest.fixture(scope="session")
def s3_variables(s3_port: int, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables by which any AWS client, here or in another process, finds the server."""
    nothing = str(tmp_path_factory.mktemp("aws") / "none")
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture
def s3_environment(s3_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's address, with its variables set."""
    for name, value in s3_variables.items():
        monkeypatch.setenv(name, value)
    return s3_variables["AWS_ENDPOINT_URL"]


@pytest.fixture
def bucket_url(s3_environment: str) -> str:
    """A prefix in a bucket of its own."""
    import boto3

    name = f"test-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/studies/one"


class Proxy(ThreadingHTTPServer):
    """Passes requests on; what stands first in `troubles` happens to the next one that `concerns` is true of.

    "throttle" answers 503, "deny" 403, "stall" answers nothing until the client gives up, "lose" passes the request on
    and hangs up without an answer, "pass" does nothing.
    """

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.port, self.troubles, self.released = port, deque(), threading.Event()
        self.concerns = lambda method, path: True
        self.requests: list[tuple[str, str]] = []
        self.dropped = {"expect"}
        """Headers that are not passed on, in lower case."""

    def trouble(self, method: str, path: str) -> str:
        self.requests.append((method, path))
        return self.troubles.popleft() if self.troubles and self.concerns(method, path) else "pass"


class _Passing(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"  # clients ask whether they may send a body

    def _handle(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        trouble = self.server.trouble(self.command, self.path)
        if trouble == "stall":
            self.server.released.wait(60)
            return
        if trouble in ("throttle", "deny"):
            self._answer(503 if trouble == "throttle" else 403, {}, SLOW_DOWN if trouble == "throttle" else DENIED)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in self.server.dropped}
        upstream.request(self.command, self.path, body, kept)
        answer = upstream.getresponse()
        content, headers = answer.read(), dict(answer.getheaders())
        upstream.close()
        if trouble != "lose":
            self._answer(answer.status, headers, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def proxied(s3_port: int) -> Callable[[], AbstractContextManager[Proxy]]:
    """Opens a proxy before the server."""
    return lambda: serving(Proxy(s3_port))


@pytest.fixture
def proxy(proxied, bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Clients made from now on talk to the server through the proxy."""
    with proxied() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.released.set()
