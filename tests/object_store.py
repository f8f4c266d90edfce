"""An S3 server in this process, with faults on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
IN_A_BUCKET = pytest.param("bucket", marks=pytest.mark.processes)
"""The parameter of a test that runs on an object store, which is a server that has to be started."""
_FAULT = b"<Error><Code>InternalError</Code><Message>a fault that a test has ordered</Message></Error>"

FaultPredicate = Callable[[str, str, str], bool]
"""Whether a request is meant: its method, path and query."""


@dataclass(kw_only=True)
class ObjectStore:
    """A server whose requests are counted; `fails` says which of them it refuses with a 500."""

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    fails: FaultPredicate | None = None

    def bucket(self, name: str) -> Any:
        """Make a bucket; return a client, so that a test can look at what is in it."""
        import boto3

        client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="tests", aws_secret_access_key="s"
        )
        client.create_bucket(Bucket=name)
        return client

    def address(self, bucket: str, prefix: str = "") -> str:
        """Return the address of a prefix, as a user writes it."""
        return f"s3://{bucket}/{prefix}?endpoint={self.url}&region=us-east-1"


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a server on a free port."""
    # Here, since they bring Flask: vLLM looks through every module at its start, and Flask's proxies do not like that.
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *arguments: Any) -> None:
            """Say nothing."""

    store = ObjectStore()
    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        request = (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"])
        store.requests.append(request[:2])
        if store.fails is not None and store.fails(*request):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [_FAULT]
        return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def give_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what a server's environment has where its results go to a bucket."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
