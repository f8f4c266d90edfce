"""A language identifier by whose judgement the text of a random model drifts often."""

from __future__ import annotations

from zlib import crc32

from ampsweep.domain.languages.identifier import Identification

OFTEN = {"drift": {"min_characters": 4, "window": 12, "every": 3, "switch_on": 1, "switch_off": 2}}
"""The field `when` of an intervention that is switched several times in some dozen tokens."""


class ChecksumIdentifier:
    """Takes a text for French or for English by a checksum of its characters."""

    identity = "checksum"
    languages = frozenset({"en", "fr", "tr"})

    def identify(self, text: str) -> Identification:
        """Return French or English."""
        return Identification(("fr", "en")[crc32(text.encode()) % 2], 1.0)
