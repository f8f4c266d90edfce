"""English names of languages, as prompts and instructions name them."""

from __future__ import annotations

from ampsweep.domain.languages.codes import script_of, short_code

_NAMES = """
ace Acehnese|aeb Tunisian Arabic|af Afrikaans|ak Akan|am Amharic|ar Arabic|ars Najdi Arabic|ary Moroccan Arabic
arz Egyptian Arabic|as Assamese|ast Asturian|awa Awadhi|ay Aymara|az Azerbaijani|ba Bashkir|ban Balinese|be Belarusian
bem Bemba|bg Bulgarian|bho Bhojpuri|bjn Banjar|bm Bambara|bn Bengali|bo Tibetan|bs Bosnian|bug Buginese|ca Catalan
ceb Cebuano|ckb Central Kurdish|crh Crimean Tatar|cs Czech|cy Welsh|da Danish|de German|dyu Dyula|dz Dzongkha|ee Ewe
el Greek|en English|eo Esperanto|es Spanish|et Estonian|eu Basque|fa Persian|fi Finnish|fj Fijian|fo Faroese|fon Fon
fr French|fur Friulian|ga Irish|gd Scottish Gaelic|gl Galician|gn Guarani|gu Gujarati|ha Hausa|he Hebrew|hi Hindi
hr Croatian|ht Haitian Creole|hu Hungarian|hy Armenian|id Indonesian|ig Igbo|ilo Iloko|is Icelandic|it Italian
ja Japanese|jv Javanese|ka Georgian|kab Kabyle|kac Kachin|kam Kamba|kea Kabuverdianu|kg Kongo|ki Kikuyu|kk Kazakh
km Khmer|kmb Kimbundu|kn Kannada|ko Korean|ks Kashmiri|ky Kyrgyz|lb Luxembourgish|lg Ganda|li Limburgish|lij Ligurian
lmo Lombard|ln Lingala|lo Lao|lt Lithuanian|ltg Latgalian|lua Luba-Lulua|luo Luo|lus Mizo|lv Latvian|mag Magahi
mai Maithili|mg Malagasy|mi Māori|min Minangkabau|mk Macedonian|ml Malayalam|mn Mongolian|mni Manipuri|mos Mossi
mr Marathi|ms Malay|mt Maltese|my Burmese|nb Norwegian Bokmål|ne Nepali|nl Dutch|nn Norwegian Nynorsk|no Norwegian
nso Northern Sotho|nus Nuer|ny Nyanja|oc Occitan|om Oromo|or Odia|pa Punjabi|pag Pangasinan|pap Papiamento|pl Polish
ps Pashto|pt Portuguese|qu Quechua|rn Rundi|ro Romanian|ru Russian|rw Kinyarwanda|sa Sanskrit|sat Santali|sc Sardinian
scn Sicilian|sd Sindhi|sg Sango|shn Shan|si Sinhala|sk Slovak|sl Slovenian|sm Samoan|sn Shona|so Somali|sq Albanian
sr Serbian|ss Swati|st Southern Sotho|su Sundanese|sv Swedish|sw Swahili|szl Silesian|ta Tamil|te Telugu|tg Tajik
th Thai|ti Tigrinya|tk Turkmen|tl Tagalog|tn Tswana|tpi Tok Pisin|tr Turkish|ts Tsonga|tt Tatar|tum Tumbuka|tw Twi
tzm Central Atlas Tamazight|ug Uyghur|uk Ukrainian|umb Umbundu|ur Urdu|uz Uzbek|vec Venetian|vi Vietnamese|war Waray
wo Wolof|xh Xhosa|yi Yiddish|yo Yoruba|yue Cantonese|zh Chinese|zu Zulu
"""
"""The names of Unicode's CLDR, but for Bengali, which models know better under this name than as Bangla."""

ENGLISH_NAMES = dict(entry.split(" ", 1) for entry in _NAMES.replace("\n", "|").strip("|").split("|"))
"""The English name of each language: of all two-letter codes that the project reads, and of some three-letter ones."""

_SCRIPT_NAMES = {"zho_Hant": "Traditional Chinese"}


def english_name(code: str) -> str | None:
    """Return the English name of a language; None if it is not known.

    A language in another than its usual script has a name of its own, or none.

    Example:
        >>> english_name("de"), english_name("deu_Latn"), english_name("ckb_Arab"), english_name("zho_Hant")
        ('German', 'German', 'Central Kurdish', 'Traditional Chinese')
    """
    code = short_code(code)
    if code in _SCRIPT_NAMES:
        return _SCRIPT_NAMES[code]
    language, _, script = code.partition("_")
    return ENGLISH_NAMES.get(language) if not script or script_of(language) in (None, script) else None
