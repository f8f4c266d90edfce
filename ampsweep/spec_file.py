"""Reads YAML and JSON files that users write. Does not know what their keys mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ampsweep.documents import parse_yaml
from ampsweep.errors import InvalidRequest


def read_spec(path: Path, *, param: str = "spec") -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        param: The field that named the file, for errors.

    Raises:
        InvalidRequest: The file cannot be read, is not YAML or JSON, holds no mapping, or has a duplicate key.
    """
    import yaml

    try:
        content = parse_yaml(path.read_text(encoding="utf-8-sig"), source=str(path), param=param)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", param=param) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} is not YAML or JSON: {' '.join(str(error).split())}", param=param) from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{path} must hold a mapping of keys to values", param=param)
    return content
