"""Connects to the object store of an address: service, endpoint, region, time-outs and retries."""

from __future__ import annotations

import os
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pyarrow import fs

from ampsweep.errors import InvalidRequest
from jobs.storage.protocol import is_name

S3, GCS = "s3", "gs"
_OPTIONS = {S3: {"region", "endpoint"}, GCS: {"endpoint"}}
_CONNECT_SECONDS = 10.0
_REQUEST_SECONDS = 60.0


def connect(address: SplitResult, *, attempts: int) -> fs.FileSystem:
    """Return a connection to an object store. Sends no request yet.

    Args:
        address: `s3://bucket/prefix` or `gs://bucket/prefix`. The options `?region=` and `?endpoint=` (the URL of a
            service that is not the vendor's own) override AWS_REGION and AWS_ENDPOINT_URL.
        attempts: How many times a request is tried.

    Raises:
        InvalidRequest: The address has no bucket, contains credentials, or has unknown options.
    """
    options = _options(address)
    if address.scheme == S3:
        return _s3(options, attempts)
    return _gcs(options, attempts)


def _options(address: SplitResult) -> dict[str, str]:
    if address.username or address.password:
        raise InvalidRequest(
            "the address contains credentials, but addresses are logged; set them in the environment instead",
            param="results",
        )
    if not address.hostname:
        raise InvalidRequest(
            f"{address.geturl()} has no bucket; write {address.scheme}://BUCKET/PREFIX", param="results"
        )
    if (prefix := address.path[1:].removesuffix("/")) and not is_name(prefix):
        raise InvalidRequest(
            f"{address.path!r} is not a valid prefix; use letters, digits and ._- between slashes", param="results"
        )
    options = dict(parse_qsl(address.query, keep_blank_values=True))
    supported = _OPTIONS[address.scheme]
    if unknown := sorted(set(options) - supported):
        raise InvalidRequest(
            f"{address.scheme}:// has no option {unknown[0]!r}; known: {', '.join(sorted(supported))}", param="results"
        )
    return options


def _s3(options: dict[str, str], attempts: int) -> fs.FileSystem:
    environment = os.environ
    region = options.get("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    endpoint = options.get("endpoint") or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    scheme, host = _endpoint(endpoint) if endpoint else ("https", None)
    return fs.S3FileSystem(
        region=region,
        endpoint_override=host,
        scheme=scheme,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        allow_delayed_open=True,  # a file that fits into one part is sent in one request
    )


def _gcs(options: dict[str, str], attempts: int) -> fs.FileSystem:
    from datetime import timedelta

    scheme, host = _endpoint(options["endpoint"]) if "endpoint" in options else ("https", None)
    limit = timedelta(seconds=_CONNECT_SECONDS * attempts)
    return fs.GcsFileSystem(scheme=scheme, endpoint_override=host, retry_time_limit=limit, anonymous=host is not None)


def _endpoint(url: str) -> tuple[str, str]:
    """Return the scheme and `host:port` of the URL of a service."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InvalidRequest(
            f"endpoint {url!r} is not a URL; use one like https://storage.example:9000", param="results"
        )
    return parts.scheme, parts.netloc
