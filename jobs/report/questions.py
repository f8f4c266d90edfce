"""What a report asks of a sweep's files, in SQL. Each query stands on the page beside the figure it made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from jobs.report.figures import bars, curves, heat_map, profile, scatter

Draw = Callable[[pa.Table], str]

BEST = """
WITH means AS (
  SELECT target_language, op, patch, statistic, layers, factor, avg(value) AS lss, count(*) AS languages
  FROM summary
  WHERE metric = 'lss' AND selection IS NULL AND neurons > 0 AND value IS NOT NULL
  GROUP BY ALL
), ranked AS (
  SELECT *, row_number() OVER (PARTITION BY target_language ORDER BY round(lss, 12) DESC, factor) AS place FROM means
)
SELECT * EXCLUDE place FROM ranked WHERE place = 1 ORDER BY target_language
"""
MATRIX = f"""
SELECT s.data_language AS row, s.target_language AS "column", s.value
FROM summary s JOIN ({BEST}) b
  ON s.target_language = b.target_language AND s.factor = b.factor AND s.op = b.op AND s.layers = b.layers
 AND s.patch IS NOT DISTINCT FROM b.patch AND s.statistic IS NOT DISTINCT FROM b.statistic
WHERE s.metric = 'lss' AND s.selection IS NULL
ORDER BY ALL
"""  # noqa: S608  # both parts stand above
CURVES = """
SELECT task || ': ' || metric AS panel, target_language AS line,
       coalesce(selection, 'language-specific') AS style, factor AS x,
       avg(coalesce(delta, value)) AS y,
       coalesce(1.96 * stddev_samp(coalesce(delta, value)) / sqrt(count(*)), 0) AS half
FROM summary
WHERE factor IS NOT NULL AND coalesce(delta, value) IS NOT NULL AND layers NOT SIMILAR TO '[0-9]+'
GROUP BY ALL HAVING count(*) > 0
ORDER BY ALL
"""
SELF_CROSS = """
WITH effects AS (
  SELECT task || ': ' || metric AS panel, target_language AS target,
         coalesce(selection, 'language-specific') AS neurons,
         factor,
         avg(delta) FILTER (data_language = target_language) AS self,
         avg(delta_ci_low) FILTER (data_language = target_language) AS self_low,
         avg(delta_ci_high) FILTER (data_language = target_language) AS self_high,
         avg(p_holm) FILTER (data_language = target_language) AS p_holm,
         avg(delta) FILTER (data_language <> target_language) AS "cross",
         1.96 * stddev_samp(delta) FILTER (data_language <> target_language)
           / sqrt(count(delta) FILTER (data_language <> target_language)) AS cross_half
  FROM summary WHERE delta IS NOT NULL GROUP BY ALL
)
SELECT * FROM effects WHERE self IS NOT NULL AND "cross" IS NOT NULL ORDER BY ALL
"""
RESOURCES = """
SELECT s.task || ': ' || s.metric AS panel,
       CASE WHEN l.language IS NULL THEN 'high-resource' ELSE 'low-resource' END AS label,
       coalesce(s.selection, 'language-specific') AS series,
       avg(coalesce(s.delta, s.value)) AS y,
       coalesce(1.96 * stddev_samp(coalesce(s.delta, s.value)) / sqrt(count(*)), 0) AS half,
       count(*) AS n
FROM summary s LEFT JOIN low_resource l ON s.target_language = l.language
WHERE s.factor IS NOT NULL AND coalesce(s.delta, s.value) IS NOT NULL
  AND (s.metric = 'lss' OR s.data_language = s.target_language)
GROUP BY ALL ORDER BY ALL
"""
LAYERS = """
SELECT language AS row, layer AS "column", count(*) AS value FROM neurons GROUP BY ALL ORDER BY ALL
"""
OVERLAP = """
WITH sizes AS (SELECT language, count(*) AS n FROM neurons GROUP BY ALL),
shared AS (
  SELECT a.language AS row, b.language AS "column", count(*) AS n
  FROM neurons a JOIN neurons b USING (layer, neuron) GROUP BY ALL
)
SELECT x.language AS row, y.language AS "column", coalesce(s.n, 0) / (x.n + y.n - coalesce(s.n, 0)) AS value
FROM sizes x CROSS JOIN sizes y LEFT JOIN shared s ON s.row = x.language AND s."column" = y.language
ORDER BY ALL
"""
PROFILE = """
SELECT task || ': ' || metric AS panel, target_language AS line, coalesce(selection, 'language-specific') AS style,
       CAST(layers AS INTEGER) AS x, avg(coalesce(delta, value)) AS y
FROM summary
WHERE layers SIMILAR TO '[0-9]+' AND coalesce(delta, value) IS NOT NULL
GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its query, and how the answer is drawn (None: as a table only). `key` names its files."""

    key: str
    title: str
    about: str
    sql: str
    draw: Draw | None


QUESTIONS = (
    Question(
        key="best_factor",
        title="Which factor is best for each target language?",
        about="The factor with the largest mean LSS over base languages; of equal ones the smaller. "
        "Controls do not count.",
        sql=BEST,
        draw=None,
    ),
    Question(
        key="lss_matrix",
        title="Where does the language shift?",
        about="LSS(L to T) at the best factor of T: the share of facts whose object in T became likelier "
        "after a premise in L.",
        sql=MATRIX,
        draw=lambda found: heat_map(
            found, rows="base language L", columns="target language T", low=0, high=1, middle=0.5
        ),
    ),
    Question(
        key="factor_curves",
        title="How does the effect depend on the factor?",
        about="Means over data languages with a 95 % interval of that mean (normal): LSS itself, for every other "
        "metric the difference to the unsteered model on the same items. Dashed: the controls.",
        sql=CURVES,
        draw=curves,
    ),
    Question(
        key="self_cross",
        title="What is gained in the language itself, and what does it cost elsewhere?",
        about="Each point is a target language and factor: the difference to the unsteered model in the language "
        "itself (self) against the mean difference in the others (cross).",
        sql=SELF_CROSS,
        draw=scatter,
    ),
    Question(
        key="resources",
        title="Do languages with few resources gain more?",
        about="Mean effect on the target language itself (LSS: from every base language), over all factors, with a 95 "
        "% interval of that mean (normal).",
        sql=RESOURCES,
        draw=bars,
    ),
    Question(
        key="layer_profile",
        title="Which layers matter?",
        about="The mean effect of one layer's neurons alone, for sweeps with layers: each.",
        sql=PROFILE,
        draw=profile,
    ),
    Question(
        key="neurons_by_layer",
        title="Where are the neurons?",
        about="Neurons of each language in each layer.",
        sql=LAYERS,
        draw=lambda found: heat_map(found, rows="language", columns="layer", whole=True),
    ),
    Question(
        key="overlap",
        title="Which languages share neurons?",
        about="Neurons of both languages over neurons of either (Jaccard index).",
        sql=OVERLAP,
        draw=lambda found: heat_map(found, rows="language", columns="language", low=0, high=1),
    ),
)
