"""Parsers of JSON and YAML that reject duplicate keys, where the usual parsers keep the last value.

Recognizes other encodings than UTF-8. Does not know what the keys mean.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampsweep.errors import InvalidRequest, quoted, shortened, shortened_key
from ampsweep.missing_path import no_file

if TYPE_CHECKING:
    import yaml

_POWER_OF_TEN = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
"""Numbers of JSON and YAML 1.2 that PyYAML reads as texts."""
_MAX_PROBLEM = 300
"""Characters of what a parser says about a text, part of which it may quote."""
_MAX_SPEC = 64 * 1024**2
"""Bytes of a spec in YAML or JSON at most."""
_AMBIGUOUS_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-9]+)+)")
"""Octal and sexagesimal numbers of YAML 1.1."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def parse_json(text: str | bytes, *, source: str | None = None, param: str | None = None) -> Any:
    """Parse JSON; bytes may be UTF-8, with or without a byte order mark, UTF-16 or UTF-32.

    Args:
        text: The whole document.
        source: The file, or file and line, that the text comes from; it is named in errors.
        param: The field that named the source.

    Returns:
        The parsed value.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or has an integer of thousands of digits.
        InvalidRequest: An object has a duplicate key. Its `param` is `param` if there is a source, else the key.
    """
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        if (problem := json_problem(error)) != str(error):
            raise ValueError(problem) from None
        raise
    except InvalidRequest as error:
        raise _located(error, source, param) from None


def json_problem(error: ValueError) -> str:
    """Return why a text is not JSON. What Python says about encodings and long integers is for programmers."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text; save it as UTF-8"
    too_long = "integer string conversion" in str(error)
    return "it has an integer of thousands of digits; write a smaller one" if too_long else str(error)


def foreign_encoding(start: bytes) -> str | None:
    """Return how the start of a text shows that it is not UTF-8, as in "it is UTF-16"; None if it may be UTF-8."""
    for mark, name in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return f"it is {name}"
    return "it has NUL characters, as text in UTF-16 has" if b"\0" in start else None


def parse_yaml(text: str, *, source: str | None = None, param: str | None = None) -> Any:
    """Parse YAML or JSON as `parse_json` does; raise yaml.YAMLError where that raises ValueError.

    `1e-3` is a number, as in JSON and YAML 1.2. `010` and `1:30` are errors, because YAML 1.1 reads them as 8 and 90.
    """
    if text.lstrip().startswith(("{", "[")):
        with suppress(ValueError):  # in JSON, unlike in YAML, tabs may indent, and "\\ud83d\\ude00" is one character
            return parse_json(text, source=source, param=param)
    import yaml

    def _ambiguous(node: yaml.ScalarNode) -> yaml.YAMLError:
        number = shortened_key(node.value)
        problem = f"{number} is an octal or sexagesimal number in YAML 1.1 and none in YAML 1.2"
        remedy = "write a decimal number, or quotes around a text"
        return yaml.constructor.ConstructorError(None, None, f"{problem}; {remedy}", node.start_mark)

    class Loader(yaml.SafeLoader):
        """Rejects mappings with duplicate keys. A key that a merge (`<<`) brings in may be overridden."""

        def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
            if _AMBIGUOUS_NUMBER.fullmatch(node.value):
                raise _ambiguous(node)
            return super().construct_yaml_int(node)

        def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
            if ":" in node.value:
                raise _ambiguous(node)
            return super().construct_yaml_float(node)

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            nodes = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            keys = [(key.tag, key.value) for key in nodes]
            if len(set(keys)) != len(keys):
                first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
                second = next(index for index, key in enumerate(keys) if first[key] != index)
                raise _duplicate_key(keys, where=f" (line {nodes[second].start_mark.line + 1})")
            return super().construct_mapping(node, deep=deep)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _POWER_OF_TEN, list("-+0123456789"))
    try:
        return yaml.load(text, Loader)  # noqa: S506  (a SafeLoader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:  # a date that does not exist, or an integer of thousands of digits
        raise yaml.YAMLError(json_problem(error)) from error
    except (LookupError, AttributeError) as error:  # of PyYAML, for a value such as `!!int ""` or `!!bool maybe`
        raise yaml.YAMLError("a value does not fit its tag (!!int, !!float, !!bool, !!timestamp)") from error
    except InvalidRequest as error:
        raise _located(error, source, param) from None


def read_bounded(path: Path, *, limit: int, param: str) -> bytes:
    """Return the content of a file; a pipe or a device that never ends cannot fill the memory.

    Args:
        path: The file.
        limit: The most bytes that it may have.
        param: The field that named it, for errors.

    Raises:
        InvalidRequest: It has more bytes.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InvalidRequest(f"{path} has more than {limit // 1024**2} MiB; give a smaller file", param=param)
    return content


def read_spec(path: Path, *, param: str = "spec") -> dict[str, Any]:
    """Return the mapping in a YAML or JSON file.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        param: The field that named the file, for errors.

    Raises:
        InvalidRequest: The file cannot be read, has more than 64 MiB, is not YAML or JSON, holds no mapping, or has a
            duplicate key.
    """
    import yaml

    try:
        encoded = read_bounded(path, limit=_MAX_SPEC, param=param)
        if foreign := foreign_encoding(encoded):
            raise InvalidRequest(f"{path} is not UTF-8 text ({foreign}); save it as UTF-8", param=param)
        content = parse_yaml(encoded.decode("utf-8-sig"), source=str(path), param=param)
    except FileNotFoundError as error:
        raise InvalidRequest(no_file(path), param=param) from error
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", param=param) from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 text; save it as UTF-8", param=param) from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is not YAML or JSON: {yaml_problem(error)}", param=param) from error
    if not isinstance(content, dict):
        raise InvalidRequest(f"{path} must hold a mapping of keys to values", param=param)
    return content


def yaml_problem(error: yaml.YAMLError) -> str:
    """Return why a text is not YAML, with the line and the column, both counted from 1, as editors do."""
    import yaml

    if not isinstance(error, yaml.MarkedYAMLError):
        return shortened(" ".join(str(error).split()), _MAX_PROBLEM)
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return ", ".join(shortened(reason, _MAX_PROBLEM) for reason in (error.context, error.problem) if reason) + where


def yaml_position(text: str, path: str) -> tuple[int, int] | None:
    """Return the line and the column, counted from 1, where a value stands in a YAML text.

    Args:
        text: Valid YAML.
        path: The dotted path of the value, such as `tasks.0.limit`. If it does not exist, the position is that of the
            innermost existing value that would hold it.

    Returns:
        The position; None for an empty text.
    """
    import yaml

    node = yaml.compose(text, yaml.SafeLoader)
    if node is None:
        return None
    mark = node.start_mark
    for step in path.split("."):
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == step), None)
            if pair is None:
                break
            mark, node = pair[0].start_mark, pair[1]
        elif isinstance(node, yaml.SequenceNode) and step.isdecimal() and int(step) < len(node.value):
            node = node.value[int(step)]
            mark = node.start_mark
        else:
            break
    return mark.line + 1, mark.column + 1


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict: an `object_pairs_hook` that raises InvalidRequest for a duplicate key."""
    content = dict(pairs)
    if len(content) != len(pairs):
        raise _duplicate_key(("", key) for key, _ in pairs)
    return content


def _duplicate_key(keys: Iterable[tuple[str, str]], where: str = "") -> InvalidRequest:
    (((_, key), _),) = Counter(keys).most_common(1)
    message = f"the key {quoted(key)} occurs twice in one object; keep one of them{where}"
    return InvalidRequest(message, param=shortened_key(key))


def _located(error: InvalidRequest, source: str | None, param: str | None) -> InvalidRequest:
    return error if source is None else InvalidRequest(f"{source}: {error.message}", param=param)
