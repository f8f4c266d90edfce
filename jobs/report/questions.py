"""The questions of a report, as SQL queries over the files of a sweep. The page shows each query with its figure.

`jobs.report.data` defines the tables, `jobs.report.views` the views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from jobs.report.comparisons import with_mcnemar, with_permutation_test
from jobs.report.dots import control_dots, gain_and_cost, self_and_cross, strip_plot
from jobs.report.heat_maps import difference_maps, heat_map
from jobs.report.lines import curves

Draw = Callable[[pa.Table], str]

BEST = """
WITH means AS (
  SELECT target_language, intervention, layers, factor, whose, avg(value) AS lss, count(*) AS languages,
         max(neurons) AS neurons
  FROM steered WHERE metric = 'lss' GROUP BY ALL
), ranked AS (
  SELECT *, row_number() OVER (
    PARTITION BY target_language, intervention, layers ORDER BY round(lss, 12) DESC, factor) AS place
  FROM means WHERE whose = 'own' AND neurons > 0
)
SELECT r.target_language, r.intervention, r.layers, r.factor, r.lss, r.languages, r.neurons,
       any_value(c.lss) FILTER (c.whose = 'random') AS random,
       any_value(c.lss) FILTER (c.whose = 'other language') AS other
FROM ranked r LEFT JOIN means c USING (target_language, intervention, layers, factor)
WHERE r.place = 1 GROUP BY ALL ORDER BY ALL
"""
MATRIX = """
SELECT data_language AS row, target_language AS "column", value
FROM at_best WHERE metric = 'lss' AND whose = 'own' ORDER BY ALL
"""
OWN_OR_ANY = """
WITH best AS (
  SELECT s.data_language, s.target_language, s.method, s.selection, s.factor, s.doc_id, s.score
  FROM samples s LEFT JOIN chosen c
    ON s.target_language = c.target_language AND s.op = c.op AND s.factor = c.factor AND s.layers = c.layers
   AND s.patch IS NOT DISTINCT FROM c.patch AND s.statistic IS NOT DISTINCT FROM c.statistic
  WHERE s.task = 'lss' AND s.error IS NULL AND s.rung IS NULL AND (s.method IS NULL OR c.factor IS NOT NULL)
), shifted AS (
  SELECT target_language, data_language, doc_id, s.selection, s.score > b.score AS yes
  FROM best s JOIN best b USING (target_language, data_language, doc_id)
  WHERE s.factor IS NOT NULL AND b.method IS NULL
), counted AS (
  SELECT target_language AS language, c.selection AS control, count(*) AS n, avg(o.yes::INT) AS own,
         avg(c.yes::INT) AS controlled, count(*) FILTER (o.yes AND NOT c.yes) AS only_own,
         count(*) FILTER (c.yes AND NOT o.yes) AS only_control
  FROM shifted o JOIN shifted c USING (target_language, data_language, doc_id)
  WHERE o.selection IS NULL AND c.selection IS NOT NULL GROUP BY ALL
)
SELECT * FROM counted ORDER BY control, language
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
SELECT panel, data_language AS row, target_language AS "column", y AS value, improvement
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
  SELECT target_language, op, patch, statistic, layers, factor, avg(y) AS gain, 'mean LSS' AS gain_is
  FROM steered WHERE metric = 'lss' AND whose = 'own' AND neurons > 0 GROUP BY ALL
), costs AS (
  SELECT panel, target_language, intervention, op, patch, statistic, layers, factor,
         avg(improvement) FILTER (data_language = target_language) AS self,
         avg(improvement) FILTER (data_language <> target_language) AS cost
  FROM steered WHERE improvement IS NOT NULL AND whose = 'own' AND neurons > 0 GROUP BY ALL
)
SELECT c.panel, c.target_language AS target, c.intervention, c.layers, c.factor, coalesce(g.gain, c.self) AS gain,
       coalesce(g.gain_is, 'improvement in the language') AS gain_is, c.cost
FROM costs c LEFT JOIN gains g
  ON c.target_language = g.target_language AND c.op = g.op AND c.factor = g.factor AND c.layers = g.layers
 AND c.patch IS NOT DISTINCT FROM g.patch AND c.statistic IS NOT DISTINCT FROM g.statistic
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
SEARCH = """
SELECT target_language, concat_ws(' ', op, patch, statistic) AS intervention, layers, factor, rung,
       metric, avg(value) AS value, sum(n) AS items
FROM summary WHERE factor IS NOT NULL AND rung IS NOT NULL GROUP BY ALL
ORDER BY metric, target_language, intervention, rung, factor
"""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question of the report.

    Attributes:
        key: Name of the question's files and of its section on the page.
        title: The question.
        about: What the figure and the table show.
        sql: The query.
        draw: Draws the table as SVG; None for a table only.
        add: Adds statistics to the table that SQL cannot compute.
    """

    key: str
    title: str
    about: str
    sql: str
    draw: Draw | None = None
    add: Callable[[pa.Table], pa.Table] | None = None


MODES = """
SELECT c.task, c.metric, count(*) AS rows, avg(c.value) AS corrected, avg(p.value) AS paper,
       avg(p.value - c.value) AS difference, max(abs(p.value - c.value)) AS largest,
       avg(c.delta) AS corrected_effect, avg(p.delta) AS paper_effect
FROM summary c JOIN summary p USING (task, metric, data_language)
WHERE c.mode = 'corrected' AND p.mode = 'paper' AND c.value IS NOT NULL AND p.value IS NOT NULL
  AND c.target_language IS NOT DISTINCT FROM p.target_language AND c.selection IS NOT DISTINCT FROM p.selection
  AND c.op IS NOT DISTINCT FROM p.op AND trunc(c.factor) IS NOT DISTINCT FROM p.factor
  AND c.patch IS NOT DISTINCT FROM p.patch AND c.statistic IS NOT DISTINCT FROM p.statistic
  AND c.layers IS NOT DISTINCT FROM p.layers
GROUP BY ALL ORDER BY ALL
"""
QUESTIONS = (
    Question(
        key="best_factor",
        title="Which factor is best for each target language?",
        about="The factor with the largest mean LSS over base languages; ties go to the smaller factor. Controls do "
        "not count; their LSS at the same factor is shown for comparison. The following sections use each target's "
        "best intervention.",
        sql=BEST,
    ),
    Question(
        key="lss_matrix",
        title="Where does the language shift?",
        about="LSS(L to T) at the best intervention of T: the share of facts whose object in T became likelier "
        "after a premise in L.",
        sql=MATRIX,
        draw=lambda table: heat_map(
            table, rows="base language L", columns="target language T", low=0, high=1, middle=0.5
        ),
    ),
    Question(
        key="own_or_any",
        title="Is it the language's own neurons?",
        about="LSS at the best intervention, over all facts and base languages, compared with the same intervention "
        "on as many random neurons and on the neurons of another language. Exact McNemar tests of the pairs of fact "
        "and base language that shifted with one and not with the other, Holm-corrected over the languages. A fact "
        "that is asked in several base languages counts several times, although these are not independent.",
        sql=OWN_OR_ANY,
        add=with_mcnemar,
        draw=control_dots,
    ),
    Question(
        key="factor_curves",
        title="How does the effect depend on the factor?",
        about="Means over data languages with the 95 % interval of that mean (Student's t): LSS itself, for every "
        "other metric the difference to the unsteered model on the same items.",
        sql=CURVES,
        draw=lambda table: curves(table, x_label="factor", y_label="mean effect"),
    ),
    Question(
        key="effect_matrix",
        title="What does steering to one language do to the others?",
        about="The difference to the unsteered model on the same items, at the best intervention of each target. "
        "Framed: the language itself (self); all other cells are cross. Blue is an improvement, red a deterioration; "
        "purple and orange are an increase and a decrease of metrics of which neither direction is better.",
        sql=EFFECTS,
        draw=lambda table: difference_maps(table, rows="data language", columns="target language"),
    ),
    Question(
        key="self_cross",
        title="Self against cross: what does a language gain in itself, and what do the others?",
        about="Each target language at its best intervention. Self: the difference to the unsteered model in the "
        "language itself, with its 95 % bootstrap interval over items. Cross: the mean difference in the others, with "
        "the interval of that mean over languages (Student's t). p-values are of self, Holm-corrected over languages; "
        "effect is Cohen's g of accuracies, d_z of means.",
        sql=SELF_CROSS,
        draw=self_and_cross,
    ),
    Question(
        key="gain_cost",
        title="Gain against cost: what is paid elsewhere for steering well?",
        about="By factor: the gain in the target language, against the mean improvement in the other languages; "
        "below 0 they get worse. A dot is a target language, a marker the mean over targets.",
        sql=GAIN_COST,
        draw=gain_and_cost,
    ),
    Question(
        key="resources",
        title="Do languages with few resources gain more?",
        about="The effect on the target language itself (LSS: the mean over base languages) at its best "
        "intervention. Classes are those of NLLB Team et al. (2022), table 1, unless others were named; languages "
        "without a class are left out.",
        sql=RESOURCES,
        draw=strip_plot,
    ),
    Question(
        key="resource_gap",
        title="High- against low-resource languages, tested",
        about="Means over target languages. The difference is low minus high, g is its size in standard deviations "
        "(Hedges), and p is that of a permutation test that exchanges languages between the classes.",
        sql=RESOURCE_GAP,
        add=with_permutation_test,
    ),
    Question(
        key="layer_profile",
        title="Which layers matter?",
        about="The mean effect over data languages of one layer's neurons alone, for sweeps with layers: each.",
        sql=PROFILE,
        draw=lambda table: curves(table, x_label="layer", y_label="mean effect"),
    ),
    Question(
        key="neurons_by_layer",
        title="Where are the neurons?",
        about="Neurons of each language in each layer.",
        sql=LAYERS,
        draw=lambda table: heat_map(table, rows="language", columns="layer", whole=True),
    ),
    Question(
        key="overlap",
        title="Which languages share neurons?",
        about="Jaccard index: the number of shared neurons divided by the number of neurons of either language.",
        sql=OVERLAP,
        draw=lambda table: heat_map(table, rows="language", columns="language", low=0, high=1),
    ),
    Question(
        key="search",
        title="How did the search get there?",
        about="Mean of each metric by rung. Factors that are missing in the next rung were dropped. The sections above "
        "use the last rung, with all items.",
        sql=SEARCH,
    ),
    Question(
        key="modes",
        title="What do the published mistakes change?",
        about="The same cells in both modes, if the sweep has both: mean values, and the mean and the largest "
        "difference of paper to corrected. In mode paper, factors are truncated to integers.",
        sql=MODES,
        draw=None,
    ),
)
