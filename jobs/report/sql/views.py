"""SQL views that several questions of the report share. The page shows them too."""

from __future__ import annotations

from collections.abc import Collection

from ampsweep.domain.metric_names import ALPHA, OF_DATA, OF_TARGET, SHARES
from jobs.report.sql.item_views import ITEM_VIEWS

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

IS_SELF = """
CREATE MACRO is_self(data_language, target_language) AS
  list_contains(string_split(target_language, '+'), data_language)
"""
"""Whether data are in the language that is steered to, or in one of several (`fr+it`)."""


def _is_one_of(metrics: Collection[str]) -> str:
    """Return the SQL that says whether a metric is one of some, whatever its filter or source."""
    names = ", ".join(f"'{name}'" for name in sorted(metrics))
    return f"split_part(metric, ',', 1) IN ({names})"


IS_SHARE = f"""
CREATE MACRO is_share(metric) AS {_is_one_of(SHARES)}
"""
"""Whether the values of a metric are from 0 to 1."""

RISES = (
    f"""
CREATE MACRO is_of_target(metric) AS {_is_one_of(OF_TARGET)}
""",
    f"""
CREATE MACRO rises(metric, higher_is_better, data_language, target_language) AS
  CASE WHEN is_self(data_language, target_language) OR NOT {_is_one_of(OF_DATA)} THEN higher_is_better END
""",
)
"""Whether a metric is a share of texts in the target language; and whether a larger value of a metric is better.

Neither direction is better of a share of texts in the language of the data, if another language is steered to.
"""

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

WIDENED = (
    """
CREATE MACRO widened_low(mean, low, widening, bottom) AS
  CASE WHEN low IS NOT NULL THEN greatest(mean - widening * (mean - low), bottom) END
""",
    """
CREATE MACRO widened_high(mean, high, widening, top) AS
  CASE WHEN high IS NOT NULL THEN least(mean + widening * (high - mean), top) END
""",
)
"""The interval of a mean over data languages that share their items: the pooled one times `widening` (`dependence`).

It ends at the bounds of the metric, if it has any.
"""

MEAN_BOUND = """
CREATE MACRO mean_bound(value, bound) AS CASE WHEN count(bound) = count(value) THEN avg(bound) END
"""
"""A bound of the 95 % interval of a mean of values that may rest on the same items: the mean of their bounds.

Nothing is gained by their number, as if one were a copy of the other. It is null if a value has no interval.
"""

MEAN_OF_ALL = """
CREATE MACRO mean_of_all(value) AS CASE WHEN count(value) = count(*) THEN avg(value) END
"""
"""The mean of a column, null if a row has none.

It is the bound of the mean of several draws of random neurons: they answer the same items, so that their number does
not narrow the interval over items.
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
"""The 95 % interval of a mean over languages: Student's t (mean ± half), but no narrower than `mean_bound`.

Of one language, which has no Student's t, it is the interval over items. Equal values of languages without intervals
have none. It ends at the bounds of the metric, if it has any: what lies beyond cannot be the mean, so that cutting it
off changes no coverage.
"""

CONCLUSION = f"""
CREATE MACRO conclusion_of(delta, low, high, p, mde, noise, rises) AS
  CASE WHEN delta = 0 THEN 'not significant'
       WHEN coalesce(low, p) IS NULL THEN NULL
       WHEN low <= 0 AND high >= 0 OR coalesce(p >= {ALPHA}, abs(delta) < coalesce(mde, 0)) THEN 'not significant'
       WHEN abs(delta) <= noise THEN 'within noise'
       WHEN rises IS NULL THEN CASE WHEN delta > 0 THEN 'higher' ELSE 'lower' END
       ELSE CASE WHEN (delta > 0) = rises THEN 'better' ELSE 'worse' END END
"""
"""In which direction a difference is significant.

It is significant if its corrected p-value is below `ALPHA` (without a test: if it is at least the minimum detectable
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
       metric = 'lss' OR no_effect IS NOT NULL AS is_comparison,
       CASE WHEN is_comparison THEN value ELSE delta END AS y,
       CASE WHEN is_comparison THEN coalesce(no_effect, 0) ELSE 0 END AS reference,
       CASE WHEN is_comparison THEN ci_low ELSE delta_ci_low END AS y_low,
       CASE WHEN is_comparison THEN ci_high ELSE delta_ci_high END AS y_high,
       CASE WHEN is_share(metric) THEN CASE WHEN is_comparison THEN 0 ELSE -1 END END AS bottom,
       CASE WHEN is_share(metric) THEN 1 END AS top,
       rises(metric, higher_is_better, data_language, target_language) AS rising,
       CASE rising WHEN true THEN delta WHEN false THEN -delta END AS improvement,
       conclusion_of(delta, delta_ci_low, delta_ci_high, p_holm, mde, noise, rising) AS conclusion
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

`y` is the value of a metric that is itself a comparison (`is_comparison`), as LSS is, and for every other metric the
difference to the unsteered model; null where the unsteered model has no value. `reference` is the value of `y` for a
cell without effect, `y_low` and `y_high` its interval, `bottom` and `top` the bounds of a share or of a difference of
shares. `improvement` is the difference, positive if the metric became better; it is null for metrics of which neither
direction is better (`rising`). `edited` names the choice of tokens.
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
SELECT panel, item_range(min(n), max(n)) AS items
FROM (SELECT panel, n FROM measured UNION ALL SELECT sided_panel, n FROM steered WHERE sided_panel <> panel)
GROUP BY panel
"""
"""How many items the values of a panel, or of one side of it, rest on."""

STEERED = """
CREATE VIEW steered AS
SELECT *, CASE selection WHEN 'random' THEN 'random' WHEN 'other' THEN 'other language' WHEN 'zero' THEN 'own, set to 0'
                         WHEN 'non_language' THEN 'non-language' ELSE 'own' END AS whose,
       CASE WHEN is_self(data_language, target_language) THEN 'self' ELSE 'cross' END AS side,
       min(layers) OVER () < max(layers) OVER () AS by_layer,
       panel || CASE WHEN side = 'self' THEN ', in the language itself'
                     WHEN bool_or(side = 'self') OVER (PARTITION BY panel) THEN ', in other languages'
                     ELSE '' END AS sided_panel
FROM compared WHERE method = 'neurons'
"""
"""Cells with an intervention on neurons. `whose` says whose neurons were changed.

`side` says whether the data are in the language that is steered to (self) or in another one (cross). What steering does
to the one is its gain, to the other its cost, so that no mean is over both: `sided_panel` names the side too.
`by_layer` says whether the sweep edits the neurons of one layer after the other (`layers: each`).
"""

MEASURES = """
CREATE VIEW measures AS
SELECT measure, metric, string_agg(DISTINCT concat_ws(', ', panel, items), '; ') AS panel
FROM measured JOIN panel_items USING (panel) JOIN (VALUES
  ('control', 'lfs', 1), ('control', 'in_target_language', 2), ('control', 'target_lpr', 3),
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
WITH scored AS (
  SELECT target_language, way, method, op, patch, statistic, layers, edited, factor,
         intervention_of(op, patch, statistic, edited) AS intervention,
         round(avg(value) FILTER (measure = 'lss'), 12) AS lss,
         count(value) FILTER (measure = 'lss') AS lss_values,
         round(avg(value) FILTER (measure = 'control' AND NOT is_self(data_language, target_language)), 12) AS control,
         count(value) FILTER (measure = 'control' AND NOT is_self(data_language, target_language)) AS control_values,
         round(avg(relative) FILTER (is_self(data_language, target_language)), 12) AS gain,
         count(relative) FILTER (is_self(data_language, target_language)) AS gain_values
  FROM (SELECT *, improvement / nullif(abs(baseline), 0) AS relative FROM ways)
  WHERE selection IS NULL AND (method <> 'neurons' OR neurons > 0) GROUP BY ALL
)
SELECT *, row_number() OVER (
  PARTITION BY target_language
  ORDER BY lss_values DESC, lss DESC, control_values DESC, control DESC, gain_values DESC, gain DESC,
           factor, op, patch, statistic, layers, edited) AS place
FROM scored
"""
"""The interventions of each target, without controls, in the order (`place`) in which one is chosen.

The best has the largest mean LSS over base languages; of equal ones the best mean language control over data languages
other than the target; then the largest mean relative gain in the language itself; then the smallest factor. One with
fewer values of a measure than another, in fewer data languages, is behind it whatever its mean. A measure that the
sweep did not take does not count; without any, the smallest factor is the first. Means are equal if they agree to 12
digits. `jobs.results.best_factors` has the same rule.
"""

CHOSEN = """
CREATE VIEW chosen AS
SELECT * FROM judged WHERE method = 'neurons' QUALIFY place = min(place) OVER (PARTITION BY target_language)
"""
"""The best intervention on the neurons of each target."""

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
WHERE y IS NOT NULL AND (is_comparison OR data_language = target_language)
GROUP BY ALL
"""
"""The effect on each target language itself (LSS: the mean over base languages), with its resource class."""

BEST_OF_WAYS = """
CREATE VIEW best_of_ways AS
WITH best AS (SELECT * FROM judged QUALIFY place = min(place) OVER (PARTITION BY target_language, way))
SELECT w.*, CASE WHEN w.selection IS NULL THEN w.way WHEN w.way = 'neurons' THEN w.selection
                 ELSE w.way || ' ' || w.selection END AS arm
FROM ways w JOIN best b
  ON w.target_language = b.target_language AND w.way = b.way AND w.op IS NOT DISTINCT FROM b.op
 AND w.factor IS NOT DISTINCT FROM b.factor AND w.layers IS NOT DISTINCT FROM b.layers AND w.edited = b.edited
 AND w.patch IS NOT DISTINCT FROM b.patch AND w.statistic IS NOT DISTINCT FROM b.statistic
"""
"""All metrics of each way to steer (`arm`) to a target, at its best intervention, and of the controls at that one."""

ARMS = """
CREATE VIEW arms AS
SELECT * FROM best_of_ways WHERE measure IS NOT NULL AND NOT is_self(data_language, target_language)
"""
"""The measures of each way to steer, in data languages other than the target: there a loss of ability is a cost."""

BY_ARM = """
CREATE VIEW by_arm AS
WITH of_draws AS (
  SELECT target_language AS target, arm, measure, panel, task_options, data_language, any_value(factor) AS factor,
         bool_and(higher_is_better) AS rising, bool_and(is_share(metric)) AS is_share, avg(value) AS value,
         mean_of_all(ci_low) AS ci_low, mean_of_all(ci_high) AS ci_high, avg(baseline) AS baseline, avg(delta) AS delta,
         mean_of_all(delta_ci_low) AS delta_ci_low, mean_of_all(delta_ci_high) AS delta_ci_high, avg(noise) AS noise,
         mean_of_all(mde) AS mde, max(p_holm) AS p_holm,
         CASE WHEN count(*) = 1 THEN max(p_value) ELSE least(1, 2 * mean_of_all(p_value)) END AS p_value
  FROM arms GROUP BY ALL
), pooled AS (
  SELECT target, arm, measure, any_value(factor) AS factor, count(*) AS rows,
         avg(value) AS value, pooled_low(value, ci_low) AS value_low, pooled_high(value, ci_high) AS value_high,
         avg(baseline) AS baseline, avg(delta) AS delta, avg(noise) AS noise, bool_and(rising) AS rising,
         bool_and(is_share) AS is_share,
         pooled_low(delta, delta_ci_low) AS delta_low, pooled_high(delta, delta_ci_high) AS delta_high,
         CASE WHEN count(mde) = count(delta) THEN sqrt(sum(pow(mde, 2))) / count(mde) END AS mde,
         list(p_value) AS p_values, list(delta) AS deltas, max(p_holm) AS p_holm_of_row
  FROM of_draws GROUP BY ALL
), widened AS (
  SELECT * REPLACE (
           widened_low(value, value_low, w, bottom) AS value_low, widened_high(value, value_high, w, top) AS value_high,
           widened_low(delta, delta_low, w, -top) AS delta_low, widened_high(delta, delta_high, w, top) AS delta_high,
           w * mde AS mde),
         combined_p(p_values, deltas, w) AS p
  FROM (SELECT p.*, CASE WHEN rows = 1 THEN 1 ELSE coalesce(widening, sqrt(rows)) END AS w,
               CASE WHEN is_share THEN 0 END AS bottom, CASE WHEN is_share THEN 1 END AS top
        FROM pooled p LEFT JOIN dependence USING (target, arm, measure))
), ranked AS (
  SELECT *, p * (1 + count(p) OVER (PARTITION BY arm, measure)
                 - row_number() OVER (PARTITION BY arm, measure ORDER BY p)) AS scaled
  FROM widened
), corrected AS (
  SELECT * EXCLUDE (rows, is_share, p, p_values, deltas, w, bottom, top, p_holm_of_row, scaled),
         CASE WHEN rows = 1 OR p IS NULL THEN p_holm_of_row ELSE least(1, max(scaled) OVER (
           PARTITION BY arm, measure ORDER BY p ROWS UNBOUNDED PRECEDING)) END AS p_holm
  FROM ranked
)
SELECT * EXCLUDE (rising), conclusion_of(delta, delta_low, delta_high, p_holm, mde, noise, rising) AS conclusion
FROM corrected
"""
"""Means of each measure over the data languages other than the target, with 95 % intervals that pool theirs.

`p_holm` of a single data language is that of its row. That of several combines their p-values by Stouffer's method
(`combined_p`) and corrects them by Holm's over targets. Items in several languages are not independent, such as
translations: intervals and deviates are widened (`dependence`), where single items have no values by as much as if all
languages had the same answers. Several draws of random neurons are averaged first, with twice the mean of their
p-values (Vovk & Wang 2020, doi 10.1093/biomet/asaa027).
"""

VIEWS = (
    ITEM_RANGE,
    EDITED,
    INTERVENTION,
    IS_SELF,
    IS_SHARE,
    *RISES,
    MEAN_OF_ALL,
    *POOLED,
    *WIDENED,
    MEAN_BOUND,
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
    BEST_OF_WAYS,
    ARMS,
    BY_ARM,
    *ITEM_VIEWS,
)
