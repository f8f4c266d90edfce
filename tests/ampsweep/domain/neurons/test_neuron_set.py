from __future__ import annotations

from typing import Any

import pytest

from ampsweep.domain.neurons.neuron_set import IdentificationRequest, language_warnings
from ampsweep.errors import InvalidRequest

GOLDEN = [
    ("lape", {}, 100_000, "ns_670de851a5c254b417e3ce38d3163ae5"),
    ("lape", {"top_rate": 0.5}, 100_000, "ns_5d3630887bb7eb850dda309470095be1"),
    ("lape", {}, 64, "ns_e8f632952e90ee09e54bf9e4ccdbb701"),
    ("lape_paper", {}, 100_000, "ns_e5f7ffdd44d27a57b0ac224cac311691"),
    ("activated", {}, 100_000, "ns_653300780c29045a000faebef42116f5"),
    ("act_prob", {}, 100_000, "ns_93119691fd502f5854f270ed0c7a6c37"),
    ("act_prob", {"neurons": 5}, 100_000, "ns_826d7a525be8df1bb8288b27631f02d5"),
    ("random", {}, 100_000, "ns_af8f451a81535f47103cf3affb807b8a"),
    ("random", {"seed": 3, "filter_rate": 1}, 100_000, "ns_5b5dd047f6921dd7b0ce047a52f905f6"),
]


@pytest.mark.parametrize(("method", "params", "max_tokens", "neuron_set_id"), GOLDEN)
@pytest.mark.parametrize("languages", [["en", "fr", "tr"], ["tr", "en", "fr"]])
def test_ids_stay_what_they_are(
    method: str, params: dict[str, Any], max_tokens: int, neuron_set_id: str, languages: list[str]
) -> None:
    request = IdentificationRequest.of(method, params, max_tokens=max_tokens)
    computed = request.neuron_set_id(fingerprint="f" * 64, corpus_hash="c" * 64, languages=languages)
    assert computed == neuron_set_id


@pytest.mark.parametrize("method", ["lape", "lape_paper", "average_precision", "random"])
def test_a_method_that_compares_languages_needs_two(method: str) -> None:
    request = IdentificationRequest.of(method)
    request.check_languages(["en", "fr"], param="languages")
    with pytest.raises(InvalidRequest, match=r"give at least two \(got fr\)") as caught:
        request.check_languages(["fr"], param="languages")
    assert caught.value.param == "languages"


def test_other_methods_take_one_language() -> None:
    for method in ("activated", "act_prob"):
        IdentificationRequest.of(method).check_languages(["fr"], param="languages")
        assert language_warnings(method, ["fr"]) == ()


def test_fewer_than_five_languages_come_with_a_warning() -> None:
    assert language_warnings("lape", ["en", "fr", "ja", "tr", "zh"]) == ()
    (warning,) = language_warnings("lape", ["en", "fr", "ja", "tr"])
    assert "4 (en, fr, ja, tr) are few" in warning
