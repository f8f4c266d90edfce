"""Language codes: the paper's languages with their FLORES codes, and the code that other codes stand for.

Inside the project a language has exactly one code, the one that `short_code` returns. Code that reads a language from
outside (a request, an option, a file or a file name) passes it through `short_code`, or through `read_code` if it has
not been validated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import TypeVar

from ampsweep.errors import InvalidRequest, quoted

T = TypeVar("T")

_CODE = re.compile(r"[\w-]{1,200}")
_USUAL_CODE = re.compile(r"[a-z]{2,3}([_-][A-Z][a-z]{3})?([_-]([A-Z]{2}|[0-9]{3}))?")
_WITH_REGION = re.compile(r"([a-z]{2,3}(?:[_-][a-z]{4})?)[_-](?:[a-z]{2}|[0-9]{3})", re.IGNORECASE)
_SCRIPT_LETTERS = 4

FLORES_CODES = {
    "en": "eng_Latn",
    "nl": "nld_Latn",
    "id": "ind_Latn",
    "ms": "zsm_Latn",
    "vi": "vie_Latn",
    "ja": "jpn_Jpan",
    "zh": "zho_Hans",
    "fr": "fra_Latn",
    "pt": "por_Latn",
    "ru": "rus_Cyrl",
    "et": "est_Latn",
    "ht": "hat_Latn",
    "it": "ita_Latn",
    "qu": "quy_Latn",
    "sw": "swh_Latn",
    "ta": "tam_Taml",
    "th": "tha_Thai",
    "tr": "tur_Latn",
}

_LONG_CODES = """
af Latn afr|ak Latn aka|am Ethi amh|ar Arab ara arb|as Beng asm|ay Latn aym ayr|az Latn aze azj|ba Cyrl bak
be Cyrl bel|bg Cyrl bul|bm Latn bam|bn Beng ben|bo Tibt bod|bs Latn bos|ca Latn cat|cs Latn ces|cy Latn cym
da Latn dan|de Latn deu|dz Tibt dzo|ee Latn ewe|el Grek ell|en Latn eng|eo Latn epo|es Latn spa|et Latn est ekk
eu Latn eus|fa Arab fas pes|fi Latn fin|fj Latn fij|fo Latn fao|fr Latn fra|ga Latn gle|gd Latn gla|gl Latn glg
gn Latn grn gug|gu Gujr guj|ha Latn hau|he Hebr heb|hi Deva hin|hr Latn hrv|ht Latn hat|hu Latn hun|hy Armn hye
id Latn ind|ig Latn ibo|is Latn isl|it Latn ita|ja Jpan jpn|jv Latn jav|ka Geor kat|kg Latn kon|ki Latn kik|kk Cyrl kaz
km Khmr khm|kn Knda kan|ko Hang kor|ks Arab kas|ky Cyrl kir|lb Latn ltz|lg Latn lug|li Latn lim|ln Latn lin
lo Laoo lao|lt Latn lit|lv Latn lav lvs|mg Latn mlg plt|mi Latn mri|mk Cyrl mkd|ml Mlym mal|mn Cyrl mon khk
mr Deva mar|ms Latn msa zsm|mt Latn mlt|my Mymr mya|nb Latn nob|ne Deva nep npi|nl Latn nld|nn Latn nno|no Latn nor
ny Latn nya|oc Latn oci|om Latn orm gaz|or Orya ori ory|pa Guru pan|pl Latn pol|ps Arab pus pbt|pt Latn por
qu Latn que quy|rn Latn run|ro Latn ron|ru Cyrl rus|rw Latn kin|sa Deva san|sc Latn srd|sd Arab snd|sg Latn sag
si Sinh sin|sk Latn slk|sl Latn slv|sm Latn smo|sn Latn sna|so Latn som|sq Latn sqi als|sr Cyrl srp|ss Latn ssw
st Latn sot|su Latn sun|sv Latn swe|sw Latn swa swh|ta Taml tam|te Telu tel|tg Cyrl tgk|th Thai tha|ti Ethi tir
tk Latn tuk|tl Latn tgl|tn Latn tsn|tr Latn tur|ts Latn tso|tt Cyrl tat|tw Latn twi|ug Arab uig|uk Cyrl ukr
ur Arab urd|uz Latn uzb uzn|vi Latn vie|wo Latn wol|xh Latn xho|yi Hebr yid ydd|yo Latn yor|zh Hans zho cmn|zu Latn zul
"""
"""For each two-letter code (ISO 639-1): its default script in FLORES-200, and the ISO 639-3 codes that stand for it.

For a macrolanguage (ISO 639-3 `zho`) these are its own code and the code of the member that FLORES-200 or FLORES+ uses
for it (`cmn`). Other members (`yue`) are languages of their own, and so is a language in another than its default
script.
"""

_ENTRIES = [entry.split() for entry in _LONG_CODES.replace("\n", "|").strip("|").split("|")]

_OTHER_NAMES = {"jp": "ja", "cn": "zh", "in": "id", "iw": "he", "ji": "yi"}
"""Country codes that are mistaken for language codes, and codes that ISO 639-1 has withdrawn."""


def _meanings() -> dict[str, str]:
    meant: dict[str, str] = {}
    for short, script, *codes in _ENTRIES:
        meant |= {short: short}
        meant |= {spelled: short for code in codes for spelled in (code, f"{code}_{script}")}
    return meant


_MEANT = _meanings()
_SCRIPTS = {short: script for short, script, *_ in _ENTRIES}
_SPELLINGS = {spelled.lower(): short for spelled, short in (_MEANT | _OTHER_NAMES).items()}
_OWN_SCRIPT = {"zh_cn": "zh", "zh_sg": "zh", "zh_hans": "zh"}


def short_code(code: str) -> str:
    """Return the two-letter code that an ISO 639-3 or FLORES code stands for; any other code as it is.

    Example:
        >>> short_code("fra_Latn"), short_code("cmn"), short_code("zho_Hant")
        ('fr', 'zh', 'zho_Hant')
    """
    return _MEANT.get(code, code)


def read_code(code: object, *, param: str) -> str:
    """Validate a language code from outside and return its `short_code`.

    Raises:
        InvalidRequest: The value is not a code, see `wrong_code`; its `param` is the given one.
    """
    if wrong := wrong_code(code):
        raise InvalidRequest(wrong, param=param)
    assert isinstance(code, str), "checked by wrong_code"
    return short_code(code)


def is_usual_code(word: str) -> bool:
    """Return whether a word is spelled as a code of a language, maybe with a script and a region.

    Example:
        >>> is_usual_code("por_Latn"), is_usual_code("pt-BR"), is_usual_code("target_language")
        (True, True, False)
    """
    return _USUAL_CODE.fullmatch(word) is not None


def without_region(code: str) -> str:
    """Return a code without its region, which no language identifier distinguishes; any other code as it is.

    Example:
        >>> without_region("pt-BR"), without_region("es_419"), without_region("zho_Hant")
        ('pt', 'es', 'zho_Hant')
    """
    with_region = _WITH_REGION.fullmatch(code)
    return code if with_region is None else short_code(with_region[1])


@lru_cache(maxsize=1024)
def script_of(code: str) -> str | None:
    """Return the ISO 15924 code of the script of a language code; None if it is not known.

    That is the script that the code names, or else the one that FLORES-200 has the language in. The parts of a code are
    separated by `_` or `-`, and a region is no script.

    Example:
        >>> script_of("zho_Hant"), script_of("sr-Latn"), script_of("pt-BR"), script_of("tlh")
        ('Hant', 'Latn', 'Latn', None)
    """
    language, *others = re.split("[_-]", code)
    named = next((part.title() for part in others if len(part) == _SCRIPT_LETTERS and part.isalpha()), None)
    return named or _SCRIPTS.get(short_code(language.lower()))


@cache
def flores_codes(code: str) -> tuple[str, ...]:
    """Return the codes of FLORES-200 and FLORES+ that may stand for a two-letter code, if any.

    For a language of the paper, the code of FLORES-200 comes first.
    """
    usual = (FLORES_CODES[code],) if code in FLORES_CODES else ()
    long = (spelled for spelled, short in _MEANT.items() if short == code and "_" in spelled)
    return tuple(dict.fromkeys((*usual, *long)))


def with_short_codes(stored: Mapping[str, T]) -> dict[str, T]:
    """Return values stored by language, with each code replaced by its `short_code`.

    If two of the codes stand for one language, all codes stay as they are.
    """
    short = {code: short_code(code) for code in stored}
    if max(Counter(short.values()).values(), default=1) > 1:
        return dict(stored)
    return {short[code]: value for code, value in stored.items()}


def meant_code(code: str, valid_codes: Iterable[str]) -> str | None:
    """Return the valid code that an invalid one certainly means (`jp`: `ja`, `FR`: `fr`, `deu_Latn`: `de`), or None.

    A language in a script other than its default one (`zho_Hant`) is another language.
    """
    by_meaning = {_meaning(name): name for name in sorted(valid_codes, reverse=True)}
    meant = by_meaning.get(_meaning(code))
    return None if meant == code else meant


def is_target(language: str, target: str | None) -> bool:
    """Return whether a language is the target, or one of the languages of the target (`fr+it`)."""
    return target is not None and language in target.split("+")


def one_language_twice(codes: Iterable[object]) -> str | None:
    """Return an error message if two of the codes mean one language, such as `fr` and `fra_Latn`; None otherwise."""
    by_meaning: dict[str, str] = {}
    for code in codes:
        if isinstance(code, str) and (first := by_meaning.setdefault(_meaning(code), code)) != code:
            return f"{first} and {code} are one language; give it under one code"
    return None


def _meaning(code: str) -> str:
    spelled = code.strip().lower().replace("-", "_")
    return _SPELLINGS.get(spelled) or _OWN_SCRIPT.get(spelled, spelled)


def wrong_code(code: object) -> str | None:
    """Return an error message if a value cannot be the code of a language, otherwise None.

    A code consists of letters, digits, "_" and "-", so that it can be part of the name of a file or a field. YAML 1.1
    reads the words no, off, yes and on as booleans, so Norwegian's code must be quoted.
    """
    if isinstance(code, bool):
        read, word = ("true", "yes") if code else ("false", "no")
        return f'a language must be a code; got {read}. YAML reads {word} as {read}; quote it: "{word}"'
    if isinstance(code, int | float):
        return f"a language must be a code, such as fr; got the number {code!r}"
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        allowed = "letters, digits, _ and -, without spaces around it"
        return f"a language must be a code of {allowed}, such as fr or zho_Hant; got {quoted(code)}"
    return None
