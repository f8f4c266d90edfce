"""Resource classes of languages, for the comparison of high- and low-resource languages."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from ampsweep.domain.languages.codes import read_code

CLASSES = {
    **dict.fromkeys(("en", "et", "fr", "id", "it", "ja", "ms", "nl", "pt", "ru", "sw", "th", "tr", "vi", "zh"), "high"),
    **dict.fromkeys(("ht", "qu", "ta"), "low"),
}
"""Classes of the paper's languages by table 1 of NLLB Team et al. (2022, arXiv 2207.04672)."""


def resource_classes(low: Collection[str] | None) -> pa.Table:
    """Return a table of `language` and `class` (high or low).

    Args:
        low: Codes of the low-resource languages; the paper's other languages are then high-resource.

    Raises:
        InvalidRequest: One of `low` is not a language code (param "low_resource").
    """
    classes = CLASSES
    if low is not None:
        codes = [read_code(code, param="low_resource") for code in low]
        classes = {**dict.fromkeys(CLASSES, "high"), **dict.fromkeys(codes, "low")}
    rows = [{"language": code, "class": classes[code]} for code in sorted(classes)]
    return pa.Table.from_pylist(rows, schema=pa.schema([("language", pa.string()), ("class", pa.string())]))
