"""SQL views of the report over single items: their values, and those of the best factor where it was not chosen."""

from __future__ import annotations

FOLDS = 5
"""Number of parts that the items are divided into for values on held-out items."""

WITHOUT_REGIONS = """
CREATE MACRO without_regions(target_language) AS
  regexp_replace(target_language, '[-_]([A-Za-z]{2}|[0-9]{3})\\b', '', 'g')
"""
"""The languages that are steered to without their regions, which no language identifier tells: `pt` for `pt-BR`."""

ITEM_VALUES = """
CREATE VIEW item_values AS
WITH answered AS (
  SELECT *, edited_tokens(tokens, "when", part) AS edited,
         CASE WHEN task = 'lss' THEN 'lss' WHEN task = 'clas' THEN 'lfs'
              WHEN task = 'generation' THEN 'in_target_language' WHEN correct IS NOT NULL THEN 'accuracy' END AS metric
  FROM samples
  WHERE error IS NULL AND rung IS NULL AND neuron_layer IS NULL
    AND mode IS NOT DISTINCT FROM (SELECT min(mode) FROM samples)
), unsteered AS (
  SELECT data_language, target_language, task_options, doc_id, score FROM answered WHERE task = 'lss' AND method IS NULL
)
SELECT panel, s.data_language, s.target_language, method, selection, layers, factor, s.doc_id,
       CASE WHEN method = 'neurons' AND patch = 'difference' THEN 'difference' ELSE method END AS way,
       intervention_of(op, patch, statistic, edited) AS intervention,
       avg(CASE s.metric WHEN 'lss' THEN s.score > u.score WHEN 'accuracy' THEN correct
                         ELSE is_self(prediction, without_regions(s.target_language)) END::INT) AS value
FROM answered s JOIN (SELECT DISTINCT task, task_options, metric, panel FROM compared) c
  ON s.task = c.task AND s.task_options IS NOT DISTINCT FROM c.task_options AND s.metric = c.metric
LEFT JOIN unsteered u
  ON s.task = 'lss' AND s.data_language = u.data_language AND s.target_language = u.target_language
 AND s.task_options IS NOT DISTINCT FROM u.task_options AND s.doc_id = u.doc_id
WHERE method IS NOT NULL
  AND NOT (s.metric IN ('lfs', 'in_target_language') AND is_self(s.data_language, s.target_language))
GROUP BY ALL HAVING value IS NOT NULL
"""
"""The value of each item in each steered cell: of LSS, accuracy and language control, whose means over items they are.

Language control is that of texts asked in languages other than the target. Several answers to an item are averaged.
"""

_HELD_OUT = """
CREATE VIEW {name} AS
WITH folded AS (
  SELECT *, dense_rank() OVER (PARTITION BY panel, target_language ORDER BY md5(doc_id), doc_id) % {folds} AS fold
  FROM item_values WHERE selection IS NULL AND factor IS NOT NULL
), sums AS (
  SELECT panel, target_language, way, intervention, layers, factor, data_language, fold, sum(value) AS total,
         count(*) AS n
  FROM folded GROUP BY ALL
), others AS (
  SELECT s.panel, s.target_language, s.way, s.intervention, s.layers, s.factor, s.data_language, f.fold,
         sum(total) FILTER (s.fold <> f.fold) / sum(n) FILTER (s.fold <> f.fold) AS value
  FROM sums s CROSS JOIN (SELECT DISTINCT fold FROM sums) f GROUP BY ALL
), ranked AS (
  SELECT panel, target_language, way, intervention, layers, factor, fold,
         row_number() OVER (
           PARTITION BY {race}, fold
           ORDER BY count(value) DESC, round(avg(value), 12) DESC, factor, intervention, layers) AS place,
         count(*) OVER (PARTITION BY {race}, fold) AS tried
  FROM others GROUP BY panel, target_language, way, intervention, layers, factor, fold
), by_language AS (
  SELECT {race}, data_language, sum(total) / sum(n) AS value
  FROM ranked JOIN sums USING (panel, target_language, way, intervention, layers, factor, fold)
  WHERE place = 1 AND tried > 1 GROUP BY ALL
)
SELECT {race}, avg(value) AS held_out FROM by_language
WHERE NOT EXISTS (SELECT * FROM summary WHERE rung IS NOT NULL)
GROUP BY ALL
"""


def _held_out(name: str, race: str) -> str:
    """Return the view of this name, in which interventions compete that agree in the columns `race`."""
    return _HELD_OUT.replace("{name}", name).replace("{race}", race).replace("{folds}", str(FOLDS))


HELD_OUT_FACTOR = _held_out("held_out_factor", "panel, target_language, way, intervention, layers")
HELD_OUT_INTERVENTION = _held_out("held_out_intervention", "panel, target_language, way")
"""The mean over data languages of a metric at the best factor, or intervention, on items that did not choose it.

The items are divided into FOLDS parts, an item with its answers in all data languages in one. On each part the factor
counts that has the largest mean on the others; of equal ones the smallest. There is no such value for a single factor,
and none after a search, which chose the factors on some of the same items.
"""

ITEM_VIEWS = (WITHOUT_REGIONS, ITEM_VALUES, HELD_OUT_FACTOR, HELD_OUT_INTERVENTION)
