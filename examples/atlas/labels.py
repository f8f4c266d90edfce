"""Names of countries, capitals, currencies, languages and regions in the atlas's languages, from CLDR through Babel.

The list of countries, and which time zone is named after a capital, is part of this module. All names are CLDR's
(Unicode License v3, see `ampsweep/atlas/LICENSE-UNICODE.txt`).
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from babel import Locale
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies

LANGUAGES = ("en", "nl", "id", "ms", "vi", "ja", "zh", "fr", "pt", "ru", "et", "it", "ta", "th", "tr")
AS_OF = date(2025, 1, 1)
"""The day whose currencies are used."""


class Country(NamedTuple):
    """The UN M49 code of a country's subregion, and the time zone named after its capital, if there is one."""

    subregion: str
    zone: str | None


COUNTRIES: dict[str, Country] = {
    "AL": Country("039", None),
    "AM": Country("145", "Asia/Yerevan"),
    "AR": Country("005", "America/Buenos_Aires"),
    "AT": Country("155", "Europe/Vienna"),
    "AU": Country("053", None),
    "AZ": Country("145", "Asia/Baku"),
    "BD": Country("034", "Asia/Dhaka"),
    "BE": Country("155", "Europe/Brussels"),
    "BG": Country("151", "Europe/Sofia"),
    "BR": Country("005", None),
    "BY": Country("151", "Europe/Minsk"),
    "CL": Country("005", "America/Santiago"),
    "CN": Country("030", None),
    "CO": Country("005", "America/Bogota"),
    "CU": Country("029", "America/Havana"),
    "CZ": Country("151", "Europe/Prague"),
    "DE": Country("155", "Europe/Berlin"),
    "DK": Country("154", "Europe/Copenhagen"),
    "DZ": Country("015", "Africa/Algiers"),
    "EE": Country("154", "Europe/Tallinn"),
    "EG": Country("015", "Africa/Cairo"),
    "ES": Country("039", "Europe/Madrid"),
    "ET": Country("014", "Africa/Addis_Ababa"),
    "FI": Country("154", "Europe/Helsinki"),
    "FR": Country("155", "Europe/Paris"),
    "GB": Country("154", "Europe/London"),
    "GE": Country("145", "Asia/Tbilisi"),
    "GH": Country("011", "Africa/Accra"),
    "GR": Country("039", "Europe/Athens"),
    "HR": Country("039", "Europe/Zagreb"),
    "HT": Country("029", "America/Port-au-Prince"),
    "HU": Country("151", "Europe/Budapest"),
    "ID": Country("035", "Asia/Jakarta"),
    "IE": Country("154", "Europe/Dublin"),
    "IN": Country("034", None),
    "IQ": Country("145", "Asia/Baghdad"),
    "IR": Country("034", "Asia/Tehran"),
    "IS": Country("154", "Atlantic/Reykjavik"),
    "IT": Country("039", "Europe/Rome"),
    "JP": Country("030", "Asia/Tokyo"),
    "KE": Country("014", "Africa/Nairobi"),
    "KH": Country("035", "Asia/Phnom_Penh"),
    "KR": Country("030", "Asia/Seoul"),
    "LA": Country("035", "Asia/Vientiane"),
    "LT": Country("154", "Europe/Vilnius"),
    "LV": Country("154", "Europe/Riga"),
    "LY": Country("015", "Africa/Tripoli"),
    "MG": Country("014", "Indian/Antananarivo"),
    "ML": Country("011", "Africa/Bamako"),
    "MN": Country("030", "Asia/Ulaanbaatar"),
    "MX": Country("013", "America/Mexico_City"),
    "MY": Country("035", "Asia/Kuala_Lumpur"),
    "MZ": Country("014", "Africa/Maputo"),
    "NL": Country("155", "Europe/Amsterdam"),
    "NO": Country("154", "Europe/Oslo"),
    "NP": Country("034", "Asia/Katmandu"),
    "PE": Country("005", "America/Lima"),
    "PL": Country("151", "Europe/Warsaw"),
    "PT": Country("039", "Europe/Lisbon"),
    "RO": Country("151", "Europe/Bucharest"),
    "RS": Country("039", "Europe/Belgrade"),
    "RU": Country("151", "Europe/Moscow"),
    "SA": Country("145", "Asia/Riyadh"),
    "SE": Country("154", "Europe/Stockholm"),
    "SI": Country("039", "Europe/Ljubljana"),
    "SK": Country("151", "Europe/Bratislava"),
    "SN": Country("011", "Africa/Dakar"),
    "SY": Country("145", "Asia/Damascus"),
    "TH": Country("035", "Asia/Bangkok"),
    "TN": Country("015", "Africa/Tunis"),
    "TR": Country("145", None),
    "UA": Country("151", "Europe/Kiev"),
    "US": Country("021", None),
    "UY": Country("005", "America/Montevideo"),
    "UZ": Country("143", "Asia/Tashkent"),
    "VE": Country("005", "America/Caracas"),
    "VN": Country("035", None),
    "ZW": Country("014", "Africa/Harare"),
}
CONTINENTS = {
    "150": ("039", "151", "154", "155"),
    "142": ("030", "034", "035", "143", "145"),
    "002": ("011", "014", "015", "017", "018"),
    "019": ("005", "013", "021", "029"),
    "009": ("053",),
}


def territory(code: str) -> dict[str, str]:
    """Return the name of a country or region in every language, by its ISO 3166 or UN M49 code."""
    return {language: str(Locale.parse(language).territories[code]) for language in LANGUAGES}


def capital(code: str) -> dict[str, str] | None:
    """Return the name of a country's capital, or None if no time zone is named after it."""
    zone = COUNTRIES[code].zone
    if zone is None:
        return None
    # CLDR's rule: a zone without an exemplar city is named after the last part of its identifier.
    default = zone.rpartition("/")[2].replace("_", " ")
    return {
        language: str(Locale.parse(language).time_zones.get(zone, {}).get("city", default)) for language in LANGUAGES
    }


def currency(code: str) -> dict[str, str] | None:
    """Return the name of a country's legal tender on `AS_OF`, or None if it has several."""
    codes = get_territory_currencies(code, AS_OF, AS_OF)
    if len(codes) != 1:
        return None
    return {language: str(Locale.parse(language).currencies[codes[0]]) for language in LANGUAGES}


def official_language(code: str) -> dict[str, str] | None:
    """Return the name of a country's official language, or None if it has several."""
    codes = get_official_languages(code, de_facto=True)
    if len(codes) != 1:
        return None
    return {language: str(Locale.parse(language).languages[codes[0]]) for language in LANGUAGES}


def region(code: str) -> dict[str, str]:
    """Return the name of a country's subregion."""
    return territory(COUNTRIES[code].subregion)


def continent(code: str) -> dict[str, str]:
    """Return the name of a country's continent."""
    subregion = COUNTRIES[code].subregion
    return territory(next(name for name, parts in CONTINENTS.items() if subregion in parts))
