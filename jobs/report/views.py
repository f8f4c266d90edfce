"""SQL views that several questions of the report share. The page shows them too."""

from __future__ import annotations

STEERED = """
CREATE VIEW steered AS
SELECT *, task || ': ' || metric || CASE WHEN higher_is_better IS FALSE THEN ' (lower is better)' ELSE '' END AS panel,
       concat_ws(' ', op, patch, statistic) AS intervention,
       CASE selection WHEN 'random' THEN 'random' WHEN 'other' THEN 'other language' ELSE 'own' END AS whose,
       coalesce(delta, value) AS y,
       CASE WHEN delta IS NULL THEN coalesce(no_effect, 0) ELSE 0 END AS reference,
       CASE higher_is_better WHEN true THEN delta WHEN false THEN -delta END AS improvement
FROM summary
WHERE factor IS NOT NULL AND rung IS NULL AND coalesce(delta, value) IS NOT NULL
  AND mode IS NOT DISTINCT FROM (SELECT min(mode) FROM summary)
  AND NOT (task = 'language_confusion' AND contains(metric, ','))
"""
"""Steered cells of the last rung; of the corrected mode if the sweep has both modes; rates over all sources only.

`y` is LSS itself, and for every other metric the difference to the unsteered model. `reference` is the value of `y` for
an intervention without effect. `improvement` is the difference, positive if the intervention made the metric better; it
is null for metrics of which neither direction is better.
"""

CHOSEN = """
CREATE VIEW chosen AS
WITH judged AS (
  SELECT target_language, op, patch, statistic, layers, factor,
         avg(value) FILTER (metric = 'lss') AS lss,
         avg(improvement / nullif(abs(baseline), 0)) FILTER (data_language = target_language) AS gain
  FROM steered WHERE whose = 'own' AND neurons > 0 GROUP BY ALL
)
SELECT * FROM judged WHERE coalesce(lss, gain) IS NOT NULL
QUALIFY row_number() OVER (
  PARTITION BY target_language ORDER BY round(coalesce(lss, gain), 12) DESC, factor, patch, statistic, layers
) = 1
"""
"""The best intervention of each target: by mean LSS over base languages, or without LSS by mean relative gain."""

AT_BEST = """
CREATE VIEW at_best AS
SELECT s.* FROM steered s JOIN chosen c
  ON s.target_language = c.target_language AND s.op = c.op AND s.factor = c.factor AND s.layers = c.layers
 AND s.patch IS NOT DISTINCT FROM c.patch AND s.statistic IS NOT DISTINCT FROM c.statistic
"""
"""The rows of these interventions and of their controls."""

BY_CLASS = """
CREATE VIEW by_class AS
SELECT panel, class, whose, target_language AS language, avg(y) AS y
FROM at_best JOIN resources ON target_language = language
WHERE metric = 'lss' OR data_language = target_language
GROUP BY ALL
"""
"""The effect on each target language itself (LSS: the mean over base languages), with its resource class."""

VIEWS = (STEERED, CHOSEN, AT_BEST, BY_CLASS)
