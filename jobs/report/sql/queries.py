"""The SQL queries of the report, over the files of a sweep and the views of `jobs.report.sql.views`."""

from __future__ import annotations

DOES_IT_WORK = """
SELECT target, arm AS method, any_value(factor) AS factor,
       any_value(value) FILTER (measure = 'control') AS control,
       any_value(value_low) FILTER (measure = 'control') AS control_low,
       any_value(value_high) FILTER (measure = 'control') AS control_high,
       any_value(baseline) FILTER (measure = 'control') AS unsteered,
       any_value(conclusion) FILTER (measure = 'control') AS control_conclusion,
       any_value(value) FILTER (measure = 'quality') AS quality,
       any_value(value_low) FILTER (measure = 'quality') AS quality_low,
       any_value(value_high) FILTER (measure = 'quality') AS quality_high,
       any_value(delta) FILTER (measure = 'accuracy') AS accuracy,
       any_value(delta_low) FILTER (measure = 'accuracy') AS accuracy_low,
       any_value(delta_high) FILTER (measure = 'accuracy') AS accuracy_high,
       any_value(conclusion) FILTER (measure = 'accuracy') AS accuracy_conclusion,
       any_value(delta) FILTER (measure = 'nll') AS nll,
       any_value(delta_low) FILTER (measure = 'nll') AS nll_low,
       any_value(delta_high) FILTER (measure = 'nll') AS nll_high,
       any_value(conclusion) FILTER (measure = 'nll') AS nll_conclusion,
       any_value(value) FILTER (measure = 'lss') AS lss,
       any_value(value_low) FILTER (measure = 'lss') AS lss_low,
       any_value(value_high) FILTER (measure = 'lss') AS lss_high,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'control') AS control_is,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'quality') AS quality_is,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'accuracy') AS accuracy_is,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'nll') AS nll_is,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'lss') AS lss_is
FROM by_arm GROUP BY target, arm ORDER BY target, method
"""
CONTROL_COST = """
WITH arms_and_costs AS (
  SELECT cost.measure, control.target, control.arm AS method, control.value AS control,
         control.value_low AS control_low, control.value_high AS control_high,
         CASE cost.measure WHEN 'accuracy' THEN -cost.delta ELSE cost.delta END AS cost,
         CASE cost.measure WHEN 'accuracy' THEN -cost.delta_high ELSE cost.delta_low END AS cost_low,
         CASE cost.measure WHEN 'accuracy' THEN -cost.delta_low ELSE cost.delta_high END AS cost_high, control.baseline
  FROM by_arm control JOIN by_arm cost USING (target, arm)
  WHERE control.measure = 'control' AND cost.measure IN ('accuracy', 'nll') AND cost.delta IS NOT NULL
), points AS (
  SELECT * EXCLUDE (baseline) FROM arms_and_costs
  UNION ALL
  SELECT measure, target, 'unsteered', avg(baseline), NULL, NULL, 0, NULL, NULL FROM arms_and_costs
  GROUP BY measure, target
), means AS (
  SELECT measure, 'mean' AS target, method, avg(control) AS control, stddev_samp(control) AS control_sd,
         mean_bound(control, control_low) AS control_low, mean_bound(control, control_high) AS control_high,
         avg(cost) AS cost, stddev_samp(cost) AS cost_sd, mean_bound(cost, cost_low) AS cost_low,
         mean_bound(cost, cost_high) AS cost_high, count(*) AS n
  FROM points GROUP BY measure, method
), plotted AS (
  SELECT measure, target, method, control, control_low, control_high, cost, cost_low, cost_high FROM points
  UNION ALL
  SELECT measure, target, method, control,
         wider_low(control, t * control_sd / sqrt(n), control_low, 0),
         wider_high(control, t * control_sd / sqrt(n), control_high, 1),
         cost,
         wider_low(cost, t * cost_sd / sqrt(n), cost_low, NULL),
         wider_high(cost, t * cost_sd / sqrt(n), cost_high, NULL)
  FROM means LEFT JOIN student USING (n)
)
SELECT CASE measure WHEN 'accuracy' THEN 'loss of accuracy' ELSE 'rise of negative log-likelihood' END
         || (SELECT ' (' || string_agg(panel, ', ' ORDER BY panel) || ')' FROM measures m
             WHERE m.measure = p.measure) AS panel,
       * EXCLUDE (measure),
       NOT EXISTS (SELECT * FROM plotted o
                   WHERE o.measure = p.measure AND o.target = p.target AND o.control >= p.control AND o.cost <= p.cost
                     AND (o.control > p.control OR o.cost < p.cost)) AS on_front
FROM plotted p ORDER BY panel, target, cost, control, method
"""
SIGNIFICANCE = """
SELECT panel, CASE WHEN is_self(data_language, target_language) THEN 'self' ELSE 'cross' END AS side,
       count(*) AS effects,
       count(*) FILTER (conclusion = 'better') AS better, count(*) FILTER (conclusion = 'worse') AS worse,
       count(*) FILTER (conclusion IN ('higher', 'lower')) AS changed,
       count(*) FILTER (conclusion = 'not significant') AS not_significant,
       CASE WHEN count(noise) > 0 THEN count(*) FILTER (conclusion = 'within noise') END AS within_noise,
       count(*) FILTER (conclusion NOT IN ('not significant', 'within noise') AND abs(delta) < mde) AS below_mde,
       median(abs(delta)) AS median_effect, median(mde) AS median_mde, max(noise) AS largest_noise
FROM at_best WHERE whose = 'own' AND conclusion IS NOT NULL
GROUP BY ALL ORDER BY panel, side DESC
"""
BEST = """
WITH means AS (
  SELECT s.sided_panel, panel, side, target_language, intervention, layers, factor, whose, random_seed,
         avg(value) AS value, avg(baseline) AS baseline, count(value) AS languages, max(neurons) AS neurons,
         CASE WHEN bool_and(rising) THEN avg(value) ELSE -avg(value) END AS merit
  FROM steered s
  WHERE rising IS NOT NULL
    AND CASE side WHEN 'self' THEN NOT is_of_target(metric)
                  ELSE metric IN (SELECT metric FROM measures WHERE measure <> 'quality') END
  GROUP BY ALL
), ranked AS (
  SELECT m.*, rank() OVER (same ORDER BY languages DESC, round(merit, 12) DESC) = 1 AS is_best,
         languages < max(languages) OVER same AS is_incomplete,
         row_number() OVER (same ORDER BY languages DESC, round(merit, 12) DESC, control_values DESC, control DESC,
                                          gain_values DESC, gain DESC, factor) AS position
  FROM means m JOIN judged USING (target_language, intervention, layers, factor)
  WHERE whose = 'own' AND neurons > 0 AND method = 'neurons'
  WINDOW same AS (PARTITION BY sided_panel, target_language, intervention, layers)
), others AS (
  SELECT sided_panel, target_language, intervention, layers,
         string_agg(format('{:g}', factor), ', ' ORDER BY factor) FILTER (is_best AND position > 1) AS tied,
         string_agg(format('{:g}', factor), ', ' ORDER BY factor) FILTER (is_incomplete) AS incomplete
  FROM ranked GROUP BY ALL
)
SELECT r.sided_panel AS panel, r.target_language, r.intervention, r.layers, r.factor, any_value(tied) AS tied,
       any_value(incomplete) AS incomplete, r.value, r.baseline AS unsteered, any_value(held_out) AS held_out,
       r.languages, r.neurons,
       avg(c.value) FILTER (c.whose = 'random') AS random,
       min(c.value) FILTER (c.whose = 'random') AS random_min,
       max(c.value) FILTER (c.whose = 'random') AS random_max,
       any_value(c.value) FILTER (c.whose = 'other language') AS other
FROM ranked r LEFT JOIN means c USING (sided_panel, target_language, intervention, layers, factor)
LEFT JOIN others USING (sided_panel, target_language, intervention, layers)
LEFT JOIN (FROM held_out_factor WHERE way IN ('neurons', 'difference')) h
  ON h.panel = r.panel AND h.side = r.side AND h.target_language = r.target_language
 AND h.intervention = r.intervention AND h.layers = r.layers
WHERE r.position = 1 GROUP BY ALL ORDER BY ALL
"""
HELD_OUT = """
SELECT way AS arm, measure, avg(held_out) AS held_out
FROM held_out_intervention JOIN (SELECT DISTINCT panel, metric FROM compared) USING (panel) JOIN measures USING (metric)
WHERE side = 'cross' AND measure IN ('lss', 'control')
GROUP BY ALL
"""
MATRIX = """
SELECT data_language AS row, target_language AS "column", value, n,
       item_range(min(n) OVER (), max(n) OVER ()) AS items
FROM at_best WHERE metric = 'lss' AND whose = 'own' ORDER BY ALL
"""
OWN_OR_ANY = """
WITH best AS (
  SELECT s.data_language, s.target_language, s.selection, s.method, s.doc_id, s.score,
         coalesce(s.task_options, '') AS options
  FROM samples s LEFT JOIN chosen c
    ON s.target_language = c.target_language AND s.layers = c.layers
   AND edited_tokens(s.tokens, s."when", s.part) = c.edited
   AND (s.selection = 'zero' OR s.op = c.op AND s.factor = c.factor
        AND s.patch IS NOT DISTINCT FROM c.patch AND s.statistic IS NOT DISTINCT FROM c.statistic)
  WHERE s.task = 'lss' AND s.error IS NULL AND s.rung IS NULL AND s.neuron_layer IS NULL
    AND (s.method IS NULL OR s.method = 'neurons' AND c.factor IS NOT NULL)
    AND s.mode IS NOT DISTINCT FROM (SELECT min(mode) FROM samples)
), shifted AS (
  SELECT target_language, data_language, doc_id, options, s.selection, s.score > b.score AS yes
  FROM best s JOIN best b USING (target_language, data_language, doc_id, options)
  WHERE s.method IS NOT NULL AND b.method IS NULL
), by_pair AS (
  SELECT target_language, c.selection, doc_id, data_language, options, any_value(o.yes::INT) AS own,
         avg(c.yes::INT) AS controlled, avg((o.yes AND NOT c.yes)::INT) AS only_own,
         avg((c.yes AND NOT o.yes)::INT) AS only_control
  FROM shifted o JOIN shifted c USING (target_language, data_language, doc_id, options)
  WHERE o.selection IS NULL AND c.selection IS NOT NULL GROUP BY ALL
), by_fact AS (
  SELECT target_language, selection, doc_id, count(*) AS pairs, sum(own) AS own, sum(controlled) AS controlled,
         sum(only_own) AS only_own, sum(only_control) AS only_control
  FROM by_pair GROUP BY ALL
), counted AS (
  SELECT target_language AS language, selection AS control, count(*) AS facts, sum(pairs)::BIGINT AS n,
         sum(own) / sum(pairs) AS own, sum(controlled) / sum(pairs) AS controlled, sum(only_own) AS only_own,
         sum(only_control) AS only_control, list(own - controlled ORDER BY doc_id) AS differences
  FROM by_fact GROUP BY ALL
)
SELECT *, item_range(min(n) OVER (), max(n) OVER ()) AS items FROM counted ORDER BY control, language
"""
CURVES = """
WITH of_draws AS (
  SELECT panel, sided_panel, side, target_language, data_language, intervention, whose, factor, reference, bottom, top,
         avg(y) AS y, mean_of_all(y_low) AS y_low, mean_of_all(y_high) AS y_high
  FROM steered WHERE y IS NOT NULL AND NOT by_layer GROUP BY ALL
), means AS (
  SELECT * EXCLUDE (data_language, y, y_low, y_high), avg(y) AS y, count(*) AS n, pooled_low(y, y_low) AS low,
         pooled_high(y, y_high) AS high
  FROM of_draws GROUP BY ALL
), widened AS (
  SELECT *, CASE n WHEN 1 THEN 1 ELSE coalesce(widening, sqrt(n)) END AS w
  FROM means LEFT JOIN panel_dependence USING (panel, side, target_language, intervention, whose, factor)
)
SELECT sided_panel AS panel, target_language AS target, intervention, whose, factor AS x, y,
       widened_low(y, low, w, bottom) AS y_low, widened_high(y, high, w, top) AS y_high, n, reference
FROM widened ORDER BY ALL
"""
EFFECTS = """
SELECT panel, data_language AS row, target_language AS "column", n, y AS value, improvement,
       delta_ci_low, delta_ci_high, noise, mde, conclusion
FROM at_best WHERE delta IS NOT NULL AND whose = 'own' ORDER BY ALL
"""
SELF_CROSS = """
WITH of_draws AS (
  SELECT panel, side, target_language, data_language, whose, intervention, layers, factor, bottom, top,
         count(*) AS draws, avg(delta) AS delta, mean_of_all(delta_ci_low) AS low, mean_of_all(delta_ci_high) AS high,
         avg(effect) AS effect, avg(p_value) AS p, avg(p_holm) AS p_holm, avg(noise) AS noise, avg(mde) AS mde,
         any_value(conclusion) AS conclusion
  FROM at_best WHERE delta IS NOT NULL GROUP BY ALL
), means AS (
  SELECT panel, side, target_language, whose, intervention, layers, factor, bottom, top, avg(delta) AS delta,
         pooled_low(delta, low) AS low, pooled_high(delta, high) AS high, count(*) AS n, avg(effect) AS effect,
         CASE WHEN sum(draws) = 1 THEN avg(p) END AS p, CASE WHEN sum(draws) = 1 THEN avg(p_holm) END AS p_holm,
         avg(noise) AS noise, avg(mde) AS mde, CASE WHEN sum(draws) = 1 THEN any_value(conclusion) END AS conclusion
  FROM of_draws GROUP BY ALL
), widened AS (
  SELECT * REPLACE (widened_low(delta, low, w, bottom) AS low, widened_high(delta, high, w, top) AS high)
  FROM (SELECT *, CASE n WHEN 1 THEN 1 ELSE coalesce(widening, sqrt(n)) END AS w
        FROM means LEFT JOIN panel_dependence
        USING (panel, side, target_language, whose, intervention, layers, factor))
)
SELECT o.panel, o.target_language AS target, o.whose, o.intervention, o.factor, o.delta AS self, o.low AS self_low,
       o.high AS self_high, o.effect, o.p, o.p_holm, o.noise, o.mde, o.conclusion, c.delta AS "cross",
       c.low AS cross_low, c.high AS cross_high
FROM widened o LEFT JOIN (FROM widened WHERE side = 'cross') c
  USING (panel, target_language, whose, intervention, layers, factor)
WHERE o.side = 'self' ORDER BY ALL
"""
IN_ITSELF = """
SELECT panel, target_language AS target, arm AS method, factor, avg(value) AS value, avg(baseline) AS unsteered,
       avg(delta) AS difference, mean_of_all(delta_ci_low) AS difference_low,
       mean_of_all(delta_ci_high) AS difference_high, avg(effect) AS effect,
       CASE WHEN count(*) = 1 THEN any_value(p_value) END AS p,
       CASE WHEN count(*) = 1 THEN any_value(p_holm) END AS p_holm,
       avg(noise) AS noise, avg(mde) AS mde, CASE WHEN count(*) = 1 THEN any_value(conclusion) END AS conclusion
FROM best_of_ways
WHERE delta IS NOT NULL AND is_self(data_language, target_language)
  AND (SELECT count(DISTINCT way) > 1 FROM best_of_ways)
GROUP BY ALL ORDER BY ALL
"""
GAIN_COST = """
WITH gains AS (
  SELECT target_language, intervention, layers, factor, avg(y) AS gain
  FROM steered WHERE metric = 'lss' AND whose = 'own' AND neurons > 0 GROUP BY ALL
), costs AS (
  SELECT panel, target_language, intervention, layers, factor,
         avg(improvement) FILTER (is_self(data_language, target_language)) AS self,
         avg(improvement) FILTER (NOT is_self(data_language, target_language)) AS cost
  FROM steered
  WHERE improvement IS NOT NULL AND NOT is_of_target(metric) AND whose = 'own' AND neurons > 0 AND NOT by_layer
  GROUP BY ALL
)
SELECT c.panel, c.target_language AS target, intervention, layers, factor,
       CASE WHEN has_lss THEN g.gain ELSE c.self END AS gain,
       CASE WHEN has_lss THEN 'mean LSS' ELSE 'improvement in the language' END AS gain_is, c.cost
FROM costs c LEFT JOIN gains g USING (target_language, intervention, layers, factor)
CROSS JOIN (SELECT count(*) > 0 AS has_lss FROM gains)
WHERE cost IS NOT NULL AND CASE WHEN has_lss THEN g.gain ELSE c.self END IS NOT NULL
ORDER BY ALL
"""
RESOURCES = """
SELECT * FROM by_class WHERE (SELECT count(DISTINCT class) > 1 FROM by_class) ORDER BY ALL
"""
RESOURCE_GAP = """
SELECT panel, whose, count(*) FILTER (class = 'low') AS n_low, count(*) FILTER (class = 'high') AS n_high,
       avg(y) FILTER (class = 'low') AS mean_low, avg(y) FILTER (class = 'high') AS mean_high,
       list(y) FILTER (class = 'low') AS low, list(y) FILTER (class = 'high') AS high
FROM by_class GROUP BY ALL HAVING n_low > 0 AND n_high > 0 ORDER BY ALL
"""
PROFILE = """
SELECT sided_panel AS panel, target_language AS target, intervention || ' ' || factor AS intervention, whose,
       CAST(layers AS INTEGER) AS x, avg(y) AS y, NULL AS y_low, NULL AS y_high, any_value(reference) AS reference
FROM steered WHERE y IS NOT NULL AND by_layer GROUP BY ALL ORDER BY ALL
"""
LAYERS = """
WITH counted AS (SELECT language, layer, width, count(*) AS n FROM neurons GROUP BY ALL),
widths AS (SELECT coalesce(min(width) < max(width), false) AS differ FROM neurons)
SELECT language AS row, layer AS "column", CASE WHEN differ THEN 100 * n / width ELSE n END AS value, n, width,
       differ AS is_share
FROM counted CROSS JOIN widths ORDER BY ALL
"""
OVERLAP = """
WITH sizes AS (SELECT language, count(*) AS n FROM neurons GROUP BY ALL),
shared AS (
  SELECT a.language AS row, b.language AS "column", count(*) AS n
  FROM neurons a JOIN neurons b USING (layer, neuron) GROUP BY ALL
)
SELECT x.language AS row, y.language AS "column", coalesce(s.n, 0) / (x.n + y.n - coalesce(s.n, 0)) AS value,
       x.n AS n_row, y.n AS n_column
FROM sizes x CROSS JOIN sizes y LEFT JOIN shared s ON s.row = x.language AND s."column" = y.language
ORDER BY ALL
"""
SEARCH = """
SELECT concat_ws(': ', task || coalesce(' (' || task_options || ')', ''), nullif(metric, task)) AS metric,
       target_language, intervention_of(op, patch, statistic, edited_tokens(tokens, "when", part)) AS intervention,
       layers, factor, rung, avg(value) AS value,
       avg(value) FILTER (is_self(data_language, target_language)) AS self,
       avg(value) FILTER (NOT is_self(data_language, target_language)) AS "cross",
       count(value) AS languages, max(n) AS items
FROM summary WHERE factor IS NOT NULL AND rung IS NOT NULL GROUP BY ALL
ORDER BY metric, target_language, intervention, rung, factor
"""
MODES = """
SELECT c.task, c.metric, count(*) AS rows, item_range(min(c.n), max(c.n)) AS items,
       avg(c.value) AS corrected, avg(p.value) AS paper,
       avg(p.value - c.value) AS difference, max(abs(p.value - c.value)) AS largest,
       avg(c.delta) AS corrected_effect, avg(p.delta) AS paper_effect
FROM summary c JOIN summary p USING (task, metric, data_language)
WHERE c.mode = 'corrected' AND p.mode = 'paper' AND c.value IS NOT NULL AND p.value IS NOT NULL
  AND c.target_language IS NOT DISTINCT FROM p.target_language AND c.method IS NOT DISTINCT FROM p.method
  AND c.selection IS NOT DISTINCT FROM p.selection AND c.random_seed IS NOT DISTINCT FROM p.random_seed
  AND c.neuron_layer IS NOT DISTINCT FROM p.neuron_layer AND c.neuron_index IS NOT DISTINCT FROM p.neuron_index
  AND c.op IS NOT DISTINCT FROM p.op AND trunc(c.factor) IS NOT DISTINCT FROM p.factor
  AND c.patch IS NOT DISTINCT FROM p.patch AND c.statistic IS NOT DISTINCT FROM p.statistic
  AND c.layers IS NOT DISTINCT FROM p.layers
  AND edited_tokens(c.tokens, c."when", c.part) = edited_tokens(p.tokens, p."when", p.part)
  AND c.task_options IS NOT DISTINCT FROM p.task_options
GROUP BY ALL ORDER BY ALL
"""
ARM_MEANS = """
SELECT target, arm, measure, value, value_low, value_high, baseline, delta, delta_low, delta_high, p_holm, noise, mde,
       conclusion
FROM by_arm ORDER BY ALL
"""
ARMS_TAKEN = """
SELECT DISTINCT arm, target_language AS target FROM best_of_ways WHERE value IS NOT NULL
"""
MEASURED_BY = """
SELECT measure, string_agg(panel, '; ' ORDER BY panel) AS panels FROM measures GROUP BY measure
"""
DETECTABLE = """
SELECT arm, measure, median(mde) AS mde FROM arms WHERE mde IS NOT NULL GROUP BY ALL
"""
TRIED = """
SELECT coalesce(max(tried), 0) AS tried FROM (
  SELECT count(DISTINCT (op, patch, statistic, layers, factor, edited_tokens(tokens, "when", part))) AS tried
  FROM summary WHERE method = 'neurons' AND selection IS NULL AND neuron_layer IS NULL GROUP BY target_language
)
"""
LITTLE = """
SELECT count(*) AS rows, min(n) AS least FROM summary WHERE note LIKE '%the interval rests on%' AND rung IS NULL
"""
ALIKE = """
SELECT count(*) AS rows FROM summary WHERE note LIKE '%no interval%' AND rung IS NULL
"""
NOISE = """
SELECT count(noise) AS measured, count(delta) AS differences FROM summary
"""
