"""SQL views that several questions of the report share. The page shows them too."""

from __future__ import annotations

from ampsweep.domain.metric_names import CONTROL, SHARES

ITEM_RANGE = """
CREATE MACRO item_range(least, most) AS 'n = ' || least || CASE WHEN least < most THEN ' to ' || most ELSE '' END
"""
"""How many items values rest on, as figures name it: `n = 20`, or `n = 12 to 20`."""

EDITED = """
CREATE MACRO edited_tokens(tokens, drift, part) AS
  concat_ws(' ', 'tokens ' || tokens, 'when ' || drift, 'part ' || part)
"""
"""Which tokens in the scope an intervention edits, as figures name it: `tokens end=8`; empty for all of them."""

INTERVENTION = """
CREATE MACRO intervention_of(op, patch, statistic, edited) AS
  concat_ws(' ', op, patch, 'statistic ' || statistic, nullif(edited, ''))
"""
"""An intervention without its factor and layers, as figures name it: `set max` sets neurons to the largest activation
that was recorded of each, `set statistic max` to the largest one of the layer at the same token.
"""

IS_SHARE = f"""
CREATE MACRO is_share(metric) AS split_part(metric, ',', 1) IN ({", ".join(f"'{name}'" for name in sorted(SHARES))})
"""
"""Whether the values of a metric are from 0 to 1."""

POOLED = (
    """
CREATE MACRO pooled_low(value, low) AS
  CASE WHEN count(low) = count(value) THEN avg(value) - sqrt(sum(pow(value - low, 2))) / count(value) END
""",
    """
CREATE MACRO pooled_high(value, high) AS
  CASE WHEN count(high) = count(value) THEN avg(value) + sqrt(sum(pow(high - value, 2))) / count(value) END
""",
)
"""The 95 % interval of a mean of independent values from their intervals (Zou & Donner 2008, doi 10.1002/sim.3095).

The distances of each bound from its value are added in squares. The interval of a mean of shares stays within 0 and 1.
"""

WIDER = (
    """
CREATE MACRO wider_low(mean, half, low, bottom) AS
  CASE WHEN low IS NOT NULL OR half > 1e-12 THEN greatest(least(mean - half, low), bottom) END
""",
    """
CREATE MACRO wider_high(mean, half, high, top) AS
  CASE WHEN high IS NOT NULL OR half > 1e-12 THEN least(greatest(mean + half, high), top) END
""",
)
"""The 95 % interval of a mean over languages: Student's t (mean ± half), but no narrower than the one over items.

Of one language, which has no Student's t, it is the interval over items. Equal values of languages without intervals
have none. It ends at the bounds of the metric, if it has any: what lies beyond cannot be the mean, so that cutting it
off changes no coverage.
"""

CONCLUSION = """
CREATE MACRO conclusion_of(delta, low, high, p, mde, noise, rises) AS
  CASE WHEN delta = 0 THEN 'not significant'
       WHEN coalesce(low, p) IS NULL THEN NULL
       WHEN low <= 0 AND high >= 0 OR coalesce(p >= 0.05, abs(delta) < coalesce(mde, 0)) THEN 'not significant'
       WHEN abs(delta) <= noise THEN 'within noise'
       WHEN rises IS NULL THEN CASE WHEN delta > 0 THEN 'higher' ELSE 'lower' END
       ELSE CASE WHEN (delta > 0) = rises THEN 'better' ELSE 'worse' END END
"""
"""In which direction a difference is significant.

It is significant if its corrected p-value is below 0.05 (without a test: if it is at least the minimum detectable
effect), and if its interval, if it has one, excludes zero. Without interval and test there is no conclusion, but a
difference of 0 is never significant. It is within noise if it is not larger than the noise floor, which is null
without the control `repeat`. `rises` says whether a larger value is better.
"""

COMPARED = """
CREATE VIEW compared AS
SELECT *,
       CASE WHEN metric = 'nll' AND task = 'perplexity' THEN 'log-perplexity' ELSE task END
         || CASE WHEN min(coalesce(task_options, '')) OVER same_task = max(coalesce(task_options, '')) OVER same_task
                    THEN '' ELSE ' (' || coalesce(task_options, 'defaults') || ')' END
         || CASE WHEN task = metric THEN '' ELSE ': ' || metric END
         || CASE WHEN higher_is_better IS FALSE THEN ' (lower is better)' ELSE '' END AS panel,
       edited_tokens(tokens, "when", part) AS edited,
       intervention_of(op, patch, statistic, edited_tokens(tokens, "when", part)) AS intervention,
       coalesce(delta, value) AS y,
       CASE WHEN delta IS NULL THEN coalesce(no_effect, 0) ELSE 0 END AS reference,
       CASE WHEN delta IS NULL THEN ci_low ELSE delta_ci_low END AS y_low,
       CASE WHEN delta IS NULL THEN ci_high ELSE delta_ci_high END AS y_high,
       CASE WHEN is_share(metric) THEN CASE WHEN delta IS NULL THEN 0 ELSE -1 END END AS bottom,
       CASE WHEN is_share(metric) THEN 1 END AS top,
       CASE higher_is_better WHEN true THEN delta WHEN false THEN -delta END AS improvement,
       conclusion_of(delta, delta_ci_low, delta_ci_high, p_holm, mde, noise, higher_is_better) AS conclusion
FROM summary
WHERE method IS NOT NULL AND method <> 'repeat' AND rung IS NULL AND coalesce(delta, value) IS NOT NULL
  AND neuron_layer IS NULL
  AND mode IS NOT DISTINCT FROM (SELECT min(mode) FROM summary)
  AND NOT (task = 'language_confusion' AND contains(metric, ','))
  AND NOT (metric = 'perplexity' AND task IN (SELECT task FROM summary WHERE metric = 'nll'))
WINDOW same_task AS (PARTITION BY task)
"""
"""Cells compared with the unsteered model; in the corrected mode if the sweep has both; rates over all sources only.

Interventions on single neurons are left out; `ampsweep neurons rank` reads them.

Perplexity is left out where its logarithm, nll, is there: a few ruined sentences raise a mean of exponentials by orders
of magnitude. `panel` names the task, with its options where the sweep asks it in several ways, and the metric.

`y` is LSS itself, and for every other metric the difference to the unsteered model. `reference` is the value of `y` for
a cell without effect, `y_low` and `y_high` its interval, `bottom` and `top` the bounds of a share or of a difference
of shares. `improvement` is the difference, positive if the metric became better; it is null for metrics of which
neither direction is better. `edited` names the choice of tokens.
"""

MEASURED = """
CREATE VIEW measured AS
SELECT * FROM compared
UNION ALL BY NAME
SELECT *, task || ': ' || metric || CASE WHEN higher_is_better THEN '' ELSE ' (lower is better)' END AS panel,
       edited_tokens(tokens, "when", part) AS edited
FROM evaluated
WHERE method IS NOT NULL AND method <> 'repeat' AND rung IS NULL AND neuron_layer IS NULL
  AND mode IS NOT DISTINCT FROM (SELECT min(mode) FROM summary)
"""
"""`compared`, and the scores of stored texts of the same cells, which have no difference to the unsteered model."""

PANEL_ITEMS = """
CREATE VIEW panel_items AS
SELECT panel, item_range(min(n), max(n)) AS items FROM measured GROUP BY panel
"""
"""How many items the values of a panel rest on."""

STEERED = """
CREATE VIEW steered AS
SELECT *, CASE selection WHEN 'random' THEN 'random' WHEN 'other' THEN 'other language' WHEN 'zero' THEN 'own, set to 0'
                         WHEN 'non_language' THEN 'non-language' ELSE 'own' END AS whose
FROM compared WHERE method = 'neurons'
"""
"""Cells with an intervention on neurons. `whose` says whose neurons were changed."""

_CONTROLS = ", ".join(f"('control', '{name}', {priority})" for priority, name in enumerate(CONTROL, start=1))
MEASURES = f"""
CREATE VIEW measures AS
SELECT measure, metric, string_agg(DISTINCT concat_ws(', ', panel, items), '; ') AS panel
FROM measured JOIN panel_items USING (panel) JOIN (VALUES
  {_CONTROLS},
  ('quality', 'relevance', 1), ('quality', 'answer_nll', 2), ('quality', 'repetition', 3),
  ('lss', 'lss', 1), ('accuracy', 'accuracy', 1), ('accuracy', 'acc,none', 1),
  ('nll', 'nll', 1), ('nll', 'perplexity', 2)
) known(measure, metric, priority) USING (metric)
GROUP BY measure, metric, priority QUALIFY priority = min(priority) OVER (PARTITION BY measure)
"""
"""The metrics of the sweep that show whether steering works: of each measure those with the smallest number.

`control` is the share of generated texts in the target language, `quality` what is known of the texts, `accuracy`
and `nll` (negative log-likelihood of text) are other abilities of the model. `panel` also names the number of items.
"""

WAYS = """
CREATE VIEW ways AS
SELECT *, CASE WHEN method = 'neurons' AND patch = 'difference' THEN 'difference' ELSE method END AS way
FROM measured LEFT JOIN (SELECT metric, measure FROM measures) USING (metric)
"""
"""`measured` with the measure of each metric, and the way to steer. The patch `difference` is a way of its own."""

JUDGED = """
CREATE VIEW judged AS
SELECT target_language, way, method, op, patch, statistic, layers, edited, factor,
       intervention_of(op, patch, statistic, edited) AS intervention,
       round(avg(value) FILTER (measure = 'lss'), 12) AS lss,
       round(avg(value) FILTER (measure = 'control' AND data_language <> target_language), 12) AS control,
       round(avg(improvement / nullif(abs(baseline), 0)) FILTER (data_language = target_language), 12) AS gain
FROM ways WHERE selection IS NULL AND (method <> 'neurons' OR neurons > 0) GROUP BY ALL
HAVING coalesce(lss, control, gain) IS NOT NULL
"""
"""The interventions of each target, without controls, with what one is chosen by: the mean LSS over base languages, the
mean language control over data languages other than the target, and the mean relative gain in the language itself.
"""

_BEST_FIRST = """lss DESC NULLS LAST, control DESC NULLS LAST, gain DESC NULLS LAST,
           factor, op, patch, statistic, layers, edited"""
"""The order of the interventions in `judged`. `jobs.results.best_factors` chooses factors by the same rule."""

CHOSEN = f"""
CREATE VIEW chosen AS
SELECT * FROM judged WHERE method = 'neurons'
QUALIFY row_number() OVER (
  PARTITION BY target_language
  ORDER BY {_BEST_FIRST}) = 1
"""
"""The best intervention on the neurons of each target: the one with the largest mean LSS, of equal ones that with the
best language control, then that with the largest relative gain, then that with the smallest factor. A measure that the
sweep did not take does not count. Means are equal if they agree to 12 digits.
"""

AT_BEST = """
CREATE VIEW at_best AS
SELECT s.* FROM steered s JOIN chosen c
  ON s.target_language = c.target_language AND s.layers = c.layers AND s.edited = c.edited
 AND (s.selection = 'zero' OR s.intervention = c.intervention AND s.factor = c.factor)
"""
"""The rows of these interventions and of their controls. The control `zero` has an op and a factor of its own."""

BY_CLASS = """
CREATE VIEW by_class AS
SELECT panel, class, whose, target_language AS language, avg(y) AS y
FROM at_best JOIN resources ON target_language = language
WHERE metric = 'lss' OR data_language = target_language
GROUP BY ALL
"""
"""The effect on each target language itself (LSS: the mean over base languages), with its resource class."""

ARMS = f"""
CREATE VIEW arms AS
WITH best AS (
  SELECT * FROM judged
  QUALIFY row_number() OVER (
    PARTITION BY target_language, way
    ORDER BY {_BEST_FIRST}) = 1
)
SELECT w.*, CASE WHEN w.selection IS NULL THEN w.way WHEN w.way = 'neurons' THEN w.selection
                 ELSE w.way || ' ' || w.selection END AS arm
FROM ways w JOIN best b
  ON w.target_language = b.target_language AND w.way = b.way AND w.op IS NOT DISTINCT FROM b.op
 AND w.factor IS NOT DISTINCT FROM b.factor AND w.layers IS NOT DISTINCT FROM b.layers AND w.edited = b.edited
 AND w.patch IS NOT DISTINCT FROM b.patch AND w.statistic IS NOT DISTINCT FROM b.statistic
WHERE w.measure IS NOT NULL
"""
"""The measures of each way to steer (`arm`) to a target, at its best intervention, and of the controls at that one.

The best intervention of a way is found as that of the neurons (`chosen`).
"""

BY_ARM = """
CREATE VIEW by_arm AS
WITH pooled AS (
  SELECT target_language AS target, arm, measure, any_value(factor) AS factor, count(*) AS rows,
         avg(value) AS value, pooled_low(value, ci_low) AS value_low, pooled_high(value, ci_high) AS value_high,
         avg(baseline) AS baseline, avg(delta) AS delta, avg(noise) AS noise, bool_and(higher_is_better) AS rising,
         pooled_low(delta, delta_ci_low) AS delta_low, pooled_high(delta, delta_ci_high) AS delta_high,
         CASE WHEN count(mde) = count(delta) THEN sqrt(sum(pow(mde, 2))) / count(mde) END AS mde,
         combined_p(list(p_value), list(delta)) AS p, max(p_holm) AS p_holm_of_row
  FROM arms WHERE measure NOT IN ('control', 'quality') OR data_language <> target_language GROUP BY ALL
), ranked AS (
  SELECT *, p * (1 + count(p) OVER (PARTITION BY arm, measure)
                 - row_number() OVER (PARTITION BY arm, measure ORDER BY p)) AS scaled
  FROM pooled
), corrected AS (
  SELECT * EXCLUDE (rows, p, p_holm_of_row, scaled),
         CASE WHEN rows = 1 OR p IS NULL THEN p_holm_of_row ELSE least(1, max(scaled) OVER (
           PARTITION BY arm, measure ORDER BY p ROWS UNBOUNDED PRECEDING)) END AS p_holm
  FROM ranked
)
SELECT * EXCLUDE (rising), conclusion_of(delta, delta_low, delta_high, p_holm, mde, noise, rising) AS conclusion
FROM corrected
"""
"""Means of each measure over data languages, with 95 % intervals that pool those of the languages.

Language control and the quality of texts are means over the data languages other than the target. `p_holm` of a single
data language is that of its row. That of several combines their p-values by Stouffer's method (`combined_p`) and
corrects them by Holm's over targets. Both take languages as independent samples.
"""

VIEWS = (
    ITEM_RANGE,
    EDITED,
    INTERVENTION,
    IS_SHARE,
    *POOLED,
    *WIDER,
    CONCLUSION,
    COMPARED,
    MEASURED,
    PANEL_ITEMS,
    STEERED,
    MEASURES,
    WAYS,
    JUDGED,
    CHOSEN,
    AT_BEST,
    BY_CLASS,
    ARMS,
    BY_ARM,
)
