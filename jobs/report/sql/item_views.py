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
         CASE WHEN task = 'lss' THEN 'lss' WHEN task = 'perplexity' THEN 'nll' WHEN task = 'clas' THEN 'lfs'
              WHEN task = 'generation' THEN 'in_target_language' WHEN correct IS NOT NULL THEN 'accuracy' END AS metric
  FROM samples
  WHERE error IS NULL AND rung IS NULL AND neuron_layer IS NULL
    AND mode IS NOT DISTINCT FROM (SELECT min(mode) FROM samples)
), unsteered AS (
  SELECT task, task_options, data_language, target_language, doc_id, score, correct FROM answered
  WHERE method IS NULL AND metric IN ('lss', 'nll', 'accuracy')
)
SELECT panel, s.metric, s.task_options, s.data_language, s.target_language, method, selection, layers, factor, s.doc_id,
       CASE WHEN method = 'neurons' AND patch = 'difference' THEN 'difference' ELSE method END AS way,
       intervention_of(op, patch, statistic, edited) AS intervention,
       avg(CASE s.metric WHEN 'lss' THEN (s.score > u.score)::INT WHEN 'nll' THEN s.score
                         WHEN 'accuracy' THEN s.correct::INT
                         ELSE is_self(prediction, without_regions(s.target_language))::INT END) AS value,
       avg(CASE s.metric WHEN 'nll' THEN s.score - u.score WHEN 'accuracy' THEN s.correct::INT - u.correct::INT
           END) AS change
FROM answered s JOIN (SELECT DISTINCT task, task_options, metric, panel FROM compared) c
  ON s.task = c.task AND s.task_options IS NOT DISTINCT FROM c.task_options AND s.metric = c.metric
LEFT JOIN unsteered u
  ON s.task = u.task AND s.task_options IS NOT DISTINCT FROM u.task_options AND s.data_language = u.data_language
 AND u.target_language IS NOT DISTINCT FROM CASE s.task WHEN 'lss' THEN s.target_language END AND s.doc_id = u.doc_id
WHERE method IS NOT NULL
  AND NOT (s.metric IN ('lfs', 'in_target_language') AND is_self(s.data_language, s.target_language))
GROUP BY ALL HAVING value IS NOT NULL
"""
"""The value of each item in each steered cell: of LSS, accuracy, language control and nll, which are means over items.

`change` is the difference from the unsteered model, of accuracy and nll. Language control is that of texts asked in
languages other than the target. Several answers to an item are averaged, and so are several draws of random neurons.
"""

DEPENDENCE = """
CREATE VIEW dependence AS
WITH cells AS (
  SELECT DISTINCT target_language, arm, measure, panel, task_options, method, selection, layers, factor, intervention
  FROM arms
), deviations AS (
  SELECT i.target_language, arm, measure, i.panel, i.doc_id,
         (coalesce(change, value) - avg(coalesce(change, value)) OVER cell) / count(*) OVER cell AS deviation
  FROM item_values i JOIN cells c
    ON i.target_language = c.target_language AND i.panel = c.panel AND i.method = c.method
   AND i.task_options IS NOT DISTINCT FROM c.task_options AND i.selection IS NOT DISTINCT FROM c.selection
   AND i.layers IS NOT DISTINCT FROM c.layers AND i.factor IS NOT DISTINCT FROM c.factor
   AND i.intervention IS NOT DISTINCT FROM c.intervention
  WHERE NOT is_self(data_language, i.target_language)
  WINDOW cell AS (PARTITION BY i.target_language, arm, measure, i.panel, i.task_options, i.data_language)
), by_item AS (
  SELECT target_language, arm, measure, sum(deviation) AS together, sum(pow(deviation, 2)) AS apart
  FROM deviations GROUP BY target_language, arm, measure, panel, doc_id
)
SELECT target_language AS target, arm, measure,
       CASE WHEN sum(apart) > 1e-24 THEN greatest(1, sqrt(sum(pow(together, 2)) / sum(apart))) END AS widening
FROM by_item GROUP BY ALL
"""
"""How much wider the interval of a mean over data languages is than that of independent languages (`widening`).

It is the ratio of two standard errors of the mean: that over items, each with its answers in all languages, and that
over answers; at least 1. An item is what has the same `doc_id`. Null where all items of a language are alike.
"""

PANEL_DEPENDENCE = """
CREATE VIEW panel_dependence AS
WITH deviations AS (
  SELECT panel, target_language, is_self(data_language, target_language) AS of_self, selection, intervention, layers,
         factor, doc_id,
         (coalesce(change, value) - avg(coalesce(change, value)) OVER cell) / count(*) OVER cell AS deviation
  FROM item_values WHERE method = 'neurons'
  WINDOW cell AS (PARTITION BY panel, target_language, selection, intervention, layers, factor, task_options,
                  data_language)
), by_item AS (
  SELECT * EXCLUDE (deviation), sum(deviation) AS together, sum(pow(deviation, 2)) AS apart
  FROM deviations GROUP BY ALL
), cells AS (
  SELECT * EXCLUDE (doc_id, together, apart),
         CASE WHEN sum(apart) > 1e-24 THEN greatest(1, sqrt(sum(pow(together, 2)) / sum(apart))) END AS widening
  FROM by_item GROUP BY ALL
)
SELECT DISTINCT s.panel, s.target_language, side, whose, s.intervention, s.layers, s.factor, widening
FROM steered s JOIN cells c
  ON s.panel = c.panel AND s.target_language = c.target_language AND (side = 'self') = of_self
 AND s.selection IS NOT DISTINCT FROM c.selection AND s.intervention = c.intervention AND s.layers = c.layers
 AND s.factor = c.factor
"""
"""`dependence` of every intervention on neurons, by panel and side."""

_HELD_OUT = """
CREATE VIEW {name} AS
WITH folded AS (
  SELECT *, CASE WHEN is_self(data_language, target_language) THEN 'self' ELSE 'cross' END AS side,
         dense_rank() OVER (PARTITION BY panel, target_language ORDER BY md5(doc_id), doc_id) % {folds} AS fold
  FROM item_values WHERE selection IS NULL AND factor IS NOT NULL
), sums AS (
  SELECT panel, side, metric, target_language, way, intervention, layers, factor, data_language, fold,
         sum(value) AS total, count(*) AS n
  FROM folded GROUP BY ALL
), others AS (
  SELECT s.panel, s.side, s.metric, s.target_language, s.way, s.intervention, s.layers, s.factor, s.data_language,
         f.fold, sum(total) FILTER (s.fold <> f.fold) / sum(n) FILTER (s.fold <> f.fold) AS value
  FROM sums s CROSS JOIN (SELECT DISTINCT fold FROM sums) f GROUP BY ALL
), ranked AS (
  SELECT panel, side, target_language, way, intervention, layers, factor, fold,
         row_number() OVER (
           PARTITION BY {race}, fold
           ORDER BY count(value) DESC, round(avg(CASE metric WHEN 'nll' THEN -value ELSE value END), 12) DESC, factor,
                    intervention, layers) AS place,
         count(*) OVER (PARTITION BY {race}, fold) AS tried
  FROM others GROUP BY panel, side, metric, target_language, way, intervention, layers, factor, fold
), by_language AS (
  SELECT {race}, data_language, sum(total) / sum(n) AS value
  FROM ranked JOIN sums USING (panel, side, target_language, way, intervention, layers, factor, fold)
  WHERE place = 1 AND tried > 1 GROUP BY ALL
)
SELECT {race}, avg(value) AS held_out FROM by_language
WHERE NOT EXISTS (SELECT * FROM summary WHERE rung IS NOT NULL)
GROUP BY ALL
"""


def _held_out(name: str, race: str) -> str:
    """Return the view of this name, in which interventions compete that agree in the columns `race`."""
    return _HELD_OUT.replace("{name}", name).replace("{race}", race).replace("{folds}", str(FOLDS))


HELD_OUT_FACTOR = _held_out("held_out_factor", "panel, side, target_language, way, intervention, layers")
HELD_OUT_INTERVENTION = _held_out("held_out_intervention", "panel, side, target_language, way")
"""The mean over data languages of a metric at the best factor, or intervention, on items that did not choose it.

`side` says whether the data are in the language that is steered to (self) or in others (cross).

The items are divided into FOLDS parts, an item with its answers in all data languages in one. On each part the factor
counts that has the best mean on the others; of equal ones the smallest. There is no such value for a single factor,
and none after a search, which chose the factors on some of the same items.
"""

ITEM_VIEWS = (WITHOUT_REGIONS, ITEM_VALUES, DEPENDENCE, PANEL_DEPENDENCE, HELD_OUT_FACTOR, HELD_OUT_INTERVENTION)
