"""Locations: local paths and URIs, and the file system that each of them is in."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from d3ke_platform.errors import UsageError

Location = str | Path
_GCS_RETRY_S = 60  # by default it tries for 15 minutes, also where credentials are missing
_URI_OPTION = re.compile(r"\?(?:.*&)?(endpoint_override|region|scheme|access_key|secret_key)=")


def is_uri(location: Location) -> bool:
    """Whether the location has a scheme (s3://...) rather than being a local path."""
    return "://" in str(location)


def join(location: Location, *parts: str) -> str:
    """Location below another one; an absolute or URI part replaces what is before it."""
    result = str(location)
    for part in parts:
        result = part if is_uri(part) or part.startswith("/") else f"{result.rstrip('/')}/{part}"
    return result


def filesystem(location: Location) -> tuple[pafs.FileSystem, str]:
    """pyarrow file system of a location and the path within it.

    What follows the scheme is taken as it is written, as object names may hold blanks, percent
    and question marks. Endpoint, region and credentials come from the environment
    (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, ...).

    Raises:
        UsageError: no such scheme, or options in the URI.
    """
    if not is_uri(location):
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(str(location)))
    scheme, _, path = str(location).partition("://")
    if option := _URI_OPTION.search(path):
        raise UsageError(
            f"{location}: {option[1]} is not taken from a location. Set the environment variables "
            "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if scheme == "file":
        return pafs.LocalFileSystem(), f"/{path.lstrip('/')}"
    bucket = path.partition("/")[0]
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    try:
        return _remote_system(scheme, bucket, endpoint), path
    except (OSError, ValueError, pa.ArrowException) as error:
        where = f" AWS_ENDPOINT_URL is {endpoint}." if endpoint and scheme == "s3" else ""
        text = f"{scheme}://{bucket} cannot be reached ({plain_reason(error)}).{where}"
        raise UsageError(f"{text} Locations are local paths, s3:// or gs://.") from error


@lru_cache(maxsize=32)
def _remote_system(scheme: str, bucket: str, endpoint: str) -> pafs.FileSystem:
    """One client for all objects of a bucket: making one may ask for its region."""
    if scheme == "s3":
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        protocol, _, host = endpoint.rpartition("://")
        return pafs.S3FileSystem(
            region=region or (None if endpoint else pafs.resolve_s3_region(bucket)),
            endpoint_override=host.rstrip("/") or None,
            scheme=protocol or None,
            allow_delayed_open=True,  # what is small is put in one request
            # The SDK's own 3 s and 3 attempts end jobs of hours over one busy minute.
            connect_timeout=10,
            request_timeout=60,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=5),
        )
    limit = f"?retry_limit_seconds={_GCS_RETRY_S}" if scheme in ("gs", "gcs") else ""
    return pafs.FileSystem.from_uri(f"{scheme}://{bucket}{limit}")[0]


def plain_reason(error: BaseException) -> str:
    """What went wrong, in one line without the error's name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__
