"""Which languages have few resources: the list that high- and low-resource languages are compared by."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from ampsweep.domain.languages import short_code

CLASSES = {
    **dict.fromkeys(("en", "et", "fr", "id", "it", "ja", "ms", "nl", "pt", "ru", "sw", "th", "tr", "vi", "zh"), "high"),
    **dict.fromkeys(("ht", "qu", "ta"), "low"),
}
"""The paper's languages, as table 1 of NLLB Team et al. (2022, arXiv 2207.04672) classes them."""


def resource_classes(low: Collection[str] | None = None) -> pa.Table:
    """Return `language` and `class` (high or low); a language that is not listed has none.

    With `low` those are the low-resource languages, and the paper's other ones are high.
    """
    known = CLASSES
    if low is not None:
        known = {**dict.fromkeys(CLASSES, "high"), **dict.fromkeys(map(short_code, low), "low")}
    rows = [{"language": code, "class": known[code]} for code in sorted(known)]
    return pa.Table.from_pylist(rows, schema=pa.schema([("language", pa.string()), ("class", pa.string())]))
