"""Codes of languages: those of the paper with their FLORES codes and English names, and which code other ones mean."""

from __future__ import annotations

from collections.abc import Iterable

from ampsweep.errors import UnknownName

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

ENGLISH_NAMES = {
    "en": "English",
    "nl": "Dutch",
    "id": "Indonesian",
    "ms": "Malay",
    "vi": "Vietnamese",
    "ja": "Japanese",
    "zh": "Chinese",
    "fr": "French",
    "pt": "Portuguese",
    "ru": "Russian",
    "et": "Estonian",
    "ht": "Haitian Creole",
    "it": "Italian",
    "qu": "Quechua",
    "sw": "Swahili",
    "ta": "Tamil",
    "th": "Thai",
    "tr": "Turkish",
}

_SHORT_CODES = {flores: short for short, flores in FLORES_CODES.items()}


def short_code(code: str) -> str:
    """Return the two-letter code for a FLORES code of the table; any other code as it is."""
    return _SHORT_CODES.get(code, code)


_LONG_CODES = """
af Latn afr|ak Latn aka|am Ethi amh|ar Arab ara arb|as Beng asm|ay Latn aym ayr|az Latn aze azj|ba Cyrl bak
be Cyrl bel|bg Cyrl bul|bm Latn bam|bn Beng ben|bo Tibt bod|bs Latn bos|ca Latn cat|cs Latn ces|cy Latn cym
da Latn dan|de Latn deu|dz Tibt dzo|ee Latn ewe|el Grek ell|en Latn eng|eo Latn epo|es Latn spa|et Latn est ekk
eu Latn eus|fa Arab fas pes|fi Latn fin|fj Latn fij|fo Latn fao|fr Latn fra|ga Latn gle|gd Latn gla|gl Latn glg
gn Latn grn|gu Gujr guj|ha Latn hau|he Hebr heb|hi Deva hin|hr Latn hrv|ht Latn hat|hu Latn hun|hy Armn hye
id Latn ind|ig Latn ibo|is Latn isl|it Latn ita|ja Jpan jpn|jv Latn jav|ka Geor kat|ki Latn kik|kk Cyrl kaz
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
"""Of each two-letter code (ISO 639-1): its default script in FLORES-200, and the ISO 639-3 codes that mean it."""

_OTHER_NAMES = {"jp": "ja", "cn": "zh", "in": "id", "iw": "he", "ji": "yi"}
"""Codes of countries taken for languages, and codes that ISO 639-1 has withdrawn."""


def _meanings() -> dict[str, str]:
    meant: dict[str, str] = {}
    for entry in _LONG_CODES.replace("\n", "|").strip("|").split("|"):
        short, script, *codes = entry.split()
        meant |= {short: short}
        meant |= {spelled: short for code in codes for spelled in (code, f"{code}_{script}")}
    return meant


_MEANT = _meanings()
_SPELLINGS = {spelled.lower(): short for spelled, short in (_MEANT | _OTHER_NAMES).items()}
_OWN_SCRIPT = {"zh_cn": "zh", "zh_sg": "zh", "zh_hans": "zh"}


def meant_code(code: str, known: Iterable[str]) -> str | None:
    """Return which of the known codes an unknown one surely means: `jp` is `ja`, `FR` is `fr`, `deu_Latn` is `de`.

    None where it is none of them. A script that is not the language's default one (`zho_Hant`) is another language.
    """
    by_meaning = {_meaning(each): each for each in sorted(known, reverse=True)}
    found = by_meaning.get(_meaning(code))
    return None if found == code else found


def one_language_twice(codes: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two codes that mean one language, such as `fr` and `fra_Latn`; None where there are none."""
    by_meaning: dict[str, str] = {}
    for code in codes:
        first = by_meaning.setdefault(_meaning(code), code)
        if first != code:
            return first, code
    return None


def unknown_language(what: str, code: str, known: Iterable[str], *, param: str | None = None) -> UnknownName:
    """Return the error of a language that is not known, which names the known one that was probably meant."""
    names = tuple(known)
    return UnknownName(what, code, names, param=param, meant=meant_code(code, names))


def _meaning(code: str) -> str:
    spelled = code.strip().lower().replace("-", "_")
    return _SPELLINGS.get(spelled) or _OWN_SCRIPT.get(spelled, spelled)


def wrong_code(code: object) -> str | None:
    """Return what is wrong with a value that YAML made of a language code: a boolean or a number; None for others.

    YAML 1.1 reads the words no, off, yes and on as booleans, so that Norwegian's code has to stand in quotes.
    """
    if isinstance(code, bool):
        read, word = ("true", "yes") if code else ("false", "no")
        return f'a language must be a code; got {read}. YAML reads {word} as {read}; quote it: "{word}"'
    if isinstance(code, int | float):
        return f"a language must be a code, such as fr; got the number {code!r}"
    return None
