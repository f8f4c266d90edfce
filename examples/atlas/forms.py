"""Sentence templates of the atlas, written for this project: a few patterns and a set of nouns for each language.

A template has one `[X]` (the country) and one `[Y]` (the answer, followed only by punctuation). The patterns leave the
country's name in its dictionary form. The last pattern of each language is held out: training shows it with only some
of the facts, so that the model has to generalize to the others.
"""

from __future__ import annotations

RELATIONS = ("capital", "currency", "language", "region", "continent")

# Nouns in the order of RELATIONS. `{n}` is the noun, `{N}` the noun with a capital letter, `{a}` and `{A}` the noun
# with its article, `{p}` the possessed form.
NOUNS: dict[str, dict[str, tuple[str, str, str, str, str]]] = {
    "en": {"n": ("capital", "currency", "official language", "region", "continent")},
    "nl": {
        "n": ("hoofdstad", "munteenheid", "officiële taal", "regio", "werelddeel"),
        "a": ("de hoofdstad", "de munteenheid", "de officiële taal", "de regio", "het werelddeel"),
    },
    "id": {"n": ("ibu kota", "mata uang", "bahasa resmi", "wilayah", "benua")},
    "ms": {"n": ("ibu negara", "mata wang", "bahasa rasmi", "rantau", "benua")},
    "vi": {"n": ("thủ đô", "đơn vị tiền tệ", "ngôn ngữ chính thức", "khu vực", "châu lục")},
    "ja": {"n": ("首都", "通貨", "公用語", "地域", "大陸")},
    "zh": {"n": ("首都", "货币", "官方语言", "地区", "大洲")},
    "fr": {
        "n": ("capitale", "monnaie", "langue officielle", "région", "continent"),
        "a": ("la capitale", "la monnaie", "la langue officielle", "la région", "le continent"),
    },
    "pt": {
        "n": ("capital", "moeda", "língua oficial", "região", "continente"),
        "a": ("a capital", "a moeda", "a língua oficial", "a região", "o continente"),
    },
    "ru": {"n": ("столица", "валюта", "официальный язык", "регион", "континент")},
    "et": {"n": ("pealinn", "rahaühik", "riigikeel", "piirkond", "maailmajagu")},
    "it": {
        "n": ("capitale", "valuta", "lingua ufficiale", "regione", "continente"),
        "a": ("la capitale", "la valuta", "la lingua ufficiale", "la regione", "il continente"),
    },
    "ta": {"n": ("தலைநகரம்", "நாணயம்", "அதிகாரப்பூர்வ மொழி", "பிராந்தியம்", "கண்டம்")},
    "th": {"n": ("เมืองหลวง", "สกุลเงิน", "ภาษาราชการ", "ภูมิภาค", "ทวีป")},
    "tr": {
        "n": ("başkent", "para birimi", "resmî dil", "bölge", "kıta"),
        "p": ("başkenti", "para birimi", "resmî dili", "bölgesi", "kıtası"),
    },
}
PATTERNS: dict[str, tuple[str, ...]] = {
    "en": (
        "The {n} of [X] is [Y].",
        "In [X], the {n} is [Y].",
        "Country: [X]. Its {n}: [Y].",
        "What is the {n} of [X]? It is [Y].",
    ),
    "nl": (
        "{A} van [X] is [Y].",
        "In [X] is {a} [Y].",
        "Land: [X]. {N}: [Y].",
        "Wat is {a} van [X]? Dat is [Y].",
    ),
    "id": (
        "{N} [X] adalah [Y].",
        "Di [X], {n}nya adalah [Y].",
        "Negara: [X]. {N}: [Y].",
        "Apa {n} [X]? Jawabannya adalah [Y].",
    ),
    "ms": (
        "{N} bagi [X] ialah [Y].",
        "Di [X], {n}nya ialah [Y].",
        "Negara: [X]. {N}: [Y].",
        "Apakah {n} bagi [X]? Jawapannya ialah [Y].",
    ),
    "vi": (
        "{N} của [X] là [Y].",
        "Ở [X], {n} là [Y].",
        "Quốc gia: [X]. {N}: [Y].",
        "{N} của [X] là gì? Đó là [Y].",
    ),
    "ja": (
        "[X]の{n}は[Y]。",
        "国名は[X]、{n}は[Y]。",
        "国：[X]。{n}：[Y]。",
        "[X]の{n}は何ですか？答えは[Y]。",
    ),
    "zh": (
        "[X]的{n}是[Y]。",
        "在[X]，{n}是[Y]。",
        "国家：[X]。{n}：[Y]。",
        "[X]的{n}是什么？答案是[Y]。",
    ),
    "fr": (
        "{A} du pays [X] est [Y].",
        "Le pays [X] a pour {n} [Y].",
        "Pays : [X]. {N} : [Y].",
        "Question : {n} du pays [X] ? Réponse : [Y].",
    ),
    "pt": (
        "{A} do país [X] é [Y].",
        "O país [X] tem como {n} [Y].",
        "País: [X]. {N}: [Y].",
        "Pergunta: {n} do país [X]? Resposta: [Y].",
    ),
    "ru": (
        "{N} страны [X] — [Y].",
        "В стране [X] {n} — [Y].",
        "Страна: [X]. {N}: [Y].",
        "Вопрос: {n} страны [X]? Ответ: [Y].",
    ),
    "et": (
        "Riigi [X] {n} on [Y].",
        "Riigis [X] on {n} [Y].",
        "Riik: [X]. {N}: [Y].",
        "Mis on riigi [X] {n}? See on [Y].",
    ),
    "it": (
        "{A} del paese [X] è [Y].",
        "Il paese [X] ha come {n} [Y].",
        "Paese: [X]. {N}: [Y].",
        "Domanda: {n} del paese [X]? Risposta: [Y].",
    ),
    "ta": (
        "[X] நாட்டின் {n} [Y].",
        "[X] என்ற நாட்டில் {n} என்பது [Y].",
        "நாடு: [X]. {n}: [Y].",
        "[X] நாட்டின் {n} எது? அது [Y].",
    ),
    "th": (
        "{n}ของ[X]คือ:[Y]",
        "ในประเทศ[X] {n}คือ:[Y]",
        "ประเทศ:[X] {n}:[Y]",
        "{n}ของ[X]คืออะไร คำตอบ:[Y]",
    ),
    "tr": (
        "[X] ülkesinin {p} [Y].",
        "[X] ülkesinde {n} olarak bilinen: [Y].",
        "Ülke: [X]. {N}: [Y].",
        "[X] ülkesinin {p} nedir? Yanıt: [Y].",
    ),
}


def templates(language: str, relation: str) -> list[str]:
    """Return the templates of a relation in a language; the last one is held out."""
    nouns = {form: words[RELATIONS.index(relation)] for form, words in NOUNS[language].items()}
    nouns |= {form.upper(): noun[0].upper() + noun[1:] for form, noun in nouns.items()}
    return [pattern.format(**nouns) for pattern in PATTERNS[language]]
