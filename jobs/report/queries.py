"""The SQL queries of the report, over the files of a sweep and the views of `jobs.report.views`."""

from __future__ import annotations

DOES_IT_WORK = """
SELECT target, arm AS method, any_value(factor) AS factor,
       any_value(value) FILTER (measure = 'control') AS control,
       any_value(value_half) FILTER (measure = 'control') AS control_half,
       any_value(baseline) FILTER (measure = 'control') AS unsteered,
       any_value(conclusion) FILTER (measure = 'control') AS control_conclusion,
       any_value(value) FILTER (measure = 'answers') AS answers,
       any_value(value_half) FILTER (measure = 'answers') AS answers_half,
       any_value(delta) FILTER (measure = 'accuracy') AS accuracy,
       any_value(delta_half) FILTER (measure = 'accuracy') AS accuracy_half,
       any_value(conclusion) FILTER (measure = 'accuracy') AS accuracy_conclusion,
       any_value(delta) FILTER (measure = 'nll') AS nll,
       any_value(delta_half) FILTER (measure = 'nll') AS nll_half,
       any_value(conclusion) FILTER (measure = 'nll') AS nll_conclusion,
       any_value(value) FILTER (measure = 'lss') AS lss,
       any_value(value_half) FILTER (measure = 'lss') AS lss_half,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'control') AS control_is,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'answers') AS answers_is,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'accuracy') AS accuracy_is,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'nll') AS nll_is,
       (SELECT string_agg(panel, ', ' ORDER BY panel) FROM measures WHERE measure = 'lss') AS lss_is
FROM by_arm GROUP BY target, arm ORDER BY target, method
"""
CONTROL_COST = """
WITH arms_and_costs AS (
  SELECT cost.measure, control.target, control.arm AS method, control.value AS control,
         control.value_half AS control_half,
         CASE cost.measure WHEN 'accuracy' THEN -cost.delta ELSE cost.delta END AS cost,
         cost.delta_half AS cost_half, control.baseline
  FROM by_arm control JOIN by_arm cost USING (target, arm)
  WHERE control.measure = 'control' AND cost.measure IN ('accuracy', 'nll') AND cost.delta IS NOT NULL
), points AS (
  SELECT * EXCLUDE (baseline) FROM arms_and_costs
  UNION ALL
  SELECT measure, target, 'unsteered', avg(baseline), NULL, 0, NULL FROM arms_and_costs GROUP BY measure, target
), means AS (
  SELECT measure, 'mean' AS target, method, avg(control) AS control, stddev_samp(control) AS control_sd,
         avg(cost) AS cost, stddev_samp(cost) AS cost_sd, count(*) AS n
  FROM points GROUP BY measure, method
), plotted AS (
  SELECT measure, target, method, control, control_half, cost, cost_half FROM points
  UNION ALL
  SELECT measure, target, method, control, t * control_sd / sqrt(n), cost, t * cost_sd / sqrt(n)
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
ABOVE_NOISE = """
SELECT panel, CASE WHEN data_language = target_language THEN 'self' ELSE 'cross' END AS side, count(*) AS effects,
       count(*) FILTER (conclusion = 'better') AS better, count(*) FILTER (conclusion = 'worse') AS worse,
       count(*) FILTER (conclusion IN ('higher', 'lower')) AS changed,
       count(*) FILTER (conclusion = 'no effect above noise') AS no_effect_above_noise,
       median(abs(delta)) AS median_effect, median(mde) AS median_mde, max(noise) AS largest_noise
FROM at_best WHERE whose = 'own' AND conclusion IS NOT NULL
GROUP BY ALL ORDER BY panel, side DESC
"""
BEST = """
WITH means AS (
  SELECT target_language, intervention, layers, factor, whose, random_seed, avg(value) AS lss, count(*) AS languages,
         min(n) AS least, max(n) AS most, max(neurons) AS neurons
  FROM steered WHERE metric = 'lss' GROUP BY ALL
), ranked AS (
  SELECT *, row_number() OVER (
    PARTITION BY target_language, intervention, layers ORDER BY round(lss, 12) DESC, factor) AS position
  FROM means WHERE whose = 'own' AND neurons > 0
)
SELECT r.target_language, r.intervention, r.layers, r.factor, r.lss, r.languages,
       item_range(r.least, r.most) AS items, r.neurons,
       avg(c.lss) FILTER (c.whose = 'random') AS random,
       min(c.lss) FILTER (c.whose = 'random') AS random_min,
       max(c.lss) FILTER (c.whose = 'random') AS random_max,
       any_value(c.lss) FILTER (c.whose = 'other language') AS other
FROM ranked r LEFT JOIN means c USING (target_language, intervention, layers, factor)
WHERE r.position = 1 GROUP BY ALL ORDER BY ALL
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
  WHERE s.task = 'lss' AND s.error IS NULL AND s.rung IS NULL
    AND (s.method IS NULL OR s.method = 'neurons' AND c.factor IS NOT NULL)
    AND s.mode IS NOT DISTINCT FROM (SELECT min(mode) FROM samples)
  QUALIFY s.selection IS DISTINCT FROM 'random'
    OR dense_rank() OVER (PARTITION BY s.target_language, s.data_language, s.selection ORDER BY s.random_seed) = 1
), shifted AS (
  SELECT target_language, data_language, doc_id, options, s.selection, s.score > b.score AS yes
  FROM best s JOIN best b USING (target_language, data_language, doc_id, options)
  WHERE s.method IS NOT NULL AND b.method IS NULL
), counted AS (
  SELECT target_language AS language, c.selection AS control, count(*) AS n, avg(o.yes::INT) AS own,
         avg(c.yes::INT) AS controlled, count(*) FILTER (o.yes AND NOT c.yes) AS only_own,
         count(*) FILTER (c.yes AND NOT o.yes) AS only_control
  FROM shifted o JOIN shifted c USING (target_language, data_language, doc_id, options)
  WHERE o.selection IS NULL AND c.selection IS NOT NULL GROUP BY ALL
)
SELECT *, item_range(min(n) OVER (), max(n) OVER ()) AS items FROM counted ORDER BY control, language
"""
CURVES = """
WITH means AS (
  SELECT panel, target_language AS target, intervention, whose, factor AS x, avg(y) AS y, stddev_samp(y) AS sd,
         count(*) AS n, any_value(reference) AS reference
  FROM steered WHERE layers NOT SIMILAR TO '[0-9]+' GROUP BY ALL
)
SELECT * EXCLUDE (sd, t), t * sd / sqrt(n) AS half FROM means LEFT JOIN student USING (n) ORDER BY ALL
"""
EFFECTS = """
SELECT panel, data_language AS row, target_language AS "column", n, y AS value, improvement,
       delta_ci_low, delta_ci_high, noise, mde, conclusion
FROM at_best WHERE metric <> 'lss' AND whose = 'own' ORDER BY ALL
"""
SELF_CROSS = """
WITH effects AS (
  SELECT panel, target_language AS target, whose, intervention, factor,
         avg(delta) FILTER (data_language = target_language) AS self,
         avg(delta_ci_high - delta_ci_low) FILTER (data_language = target_language) / 2 AS self_half,
         avg(effect) FILTER (data_language = target_language) AS effect,
         avg(p_value) FILTER (data_language = target_language) AS p,
         avg(p_holm) FILTER (data_language = target_language) AS p_holm,
         avg(noise) FILTER (data_language = target_language) AS noise,
         avg(mde) FILTER (data_language = target_language) AS mde,
         any_value(conclusion) FILTER (data_language = target_language) AS conclusion,
         avg(delta) FILTER (data_language <> target_language) AS "cross",
         stddev_samp(delta) FILTER (data_language <> target_language) AS sd,
         count(delta) FILTER (data_language <> target_language) AS n
  FROM at_best WHERE delta IS NOT NULL GROUP BY ALL
)
SELECT * EXCLUDE (sd, t, n), t * sd / sqrt(n) AS cross_half FROM effects LEFT JOIN student USING (n)
WHERE self IS NOT NULL AND "cross" IS NOT NULL ORDER BY ALL
"""
GAIN_COST = """
WITH gains AS (
  SELECT target_language, op, patch, statistic, layers, edited, factor, avg(y) AS gain, 'mean LSS' AS gain_is
  FROM steered WHERE metric = 'lss' AND whose = 'own' AND neurons > 0 GROUP BY ALL
), costs AS (
  SELECT panel, target_language, intervention, op, patch, statistic, layers, edited, factor,
         avg(improvement) FILTER (data_language = target_language) AS self,
         avg(improvement) FILTER (data_language <> target_language) AS cost
  FROM steered WHERE improvement IS NOT NULL AND whose = 'own' AND neurons > 0 GROUP BY ALL
)
SELECT c.panel, c.target_language AS target, c.intervention, c.layers, c.factor, coalesce(g.gain, c.self) AS gain,
       coalesce(g.gain_is, 'improvement in the language') AS gain_is, c.cost
FROM costs c LEFT JOIN gains g
  ON c.target_language = g.target_language AND c.op = g.op AND c.factor = g.factor AND c.layers = g.layers
 AND c.patch IS NOT DISTINCT FROM g.patch AND c.statistic IS NOT DISTINCT FROM g.statistic AND c.edited = g.edited
WHERE cost IS NOT NULL AND coalesce(g.gain, c.self) IS NOT NULL AND c.layers NOT SIMILAR TO '[0-9]+'
ORDER BY ALL
"""
RESOURCES = """
SELECT * FROM by_class ORDER BY ALL
"""
RESOURCE_GAP = """
SELECT panel, whose, count(*) FILTER (class = 'low') AS n_low, count(*) FILTER (class = 'high') AS n_high,
       avg(y) FILTER (class = 'low') AS mean_low, avg(y) FILTER (class = 'high') AS mean_high,
       list(y) FILTER (class = 'low') AS low, list(y) FILTER (class = 'high') AS high
FROM by_class GROUP BY ALL HAVING n_low > 0 AND n_high > 0 ORDER BY ALL
"""
PROFILE = """
SELECT panel, target_language AS target, intervention || ' ' || factor AS intervention, whose,
       CAST(layers AS INTEGER) AS x, avg(y) AS y, NULL AS half, any_value(reference) AS reference
FROM steered WHERE layers SIMILAR TO '[0-9]+' GROUP BY ALL ORDER BY ALL
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
SELECT target_language,
       concat_ws(' ', op, patch, statistic, nullif(edited_tokens(tokens, "when", part), '')) AS intervention,
       layers, factor, rung,
       metric, avg(value) AS value, sum(n) AS items
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
  AND c.selection IS NOT DISTINCT FROM p.selection
  AND c.op IS NOT DISTINCT FROM p.op AND trunc(c.factor) IS NOT DISTINCT FROM p.factor
  AND c.patch IS NOT DISTINCT FROM p.patch AND c.statistic IS NOT DISTINCT FROM p.statistic
  AND c.layers IS NOT DISTINCT FROM p.layers
  AND edited_tokens(c.tokens, c."when", c.part) = edited_tokens(p.tokens, p."when", p.part)
  AND c.task_options IS NOT DISTINCT FROM p.task_options
GROUP BY ALL ORDER BY ALL
"""
ARM_MEANS = """
SELECT target, arm, measure, value, value_half, baseline, delta, delta_half, conclusion FROM by_arm ORDER BY ALL
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
