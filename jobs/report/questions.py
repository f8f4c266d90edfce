"""The questions of a report, each with its query and its figure. The report shows both.

`jobs.report.data` defines the tables, `jobs.report.sql.views` the views, `jobs.report.sql.queries` the queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
from matplotlib.figure import Figure

from ampsweep.domain.metric_names import ALPHA
from jobs.report.comparisons import with_permutation_test, with_sign_flips
from jobs.report.figures.control_plots import control_and_cost, method_dots
from jobs.report.figures.dots import control_dots, gain_and_cost, self_and_cross, strip_plot
from jobs.report.figures.heat_maps import difference_maps, heat_map, layer_map
from jobs.report.figures.lines import curves
from jobs.report.prose.observations import (
    best_seen,
    classes_seen,
    controls_seen,
    costs_seen,
    curves_seen,
    effects_seen,
    gain_and_cost_seen,
    gap_seen,
    in_itself_seen,
    layers_seen,
    matrix_seen,
    methods_seen,
    modes_seen,
    overlap_seen,
    search_seen,
    self_and_cross_seen,
    significance_seen,
)
from jobs.report.sql.queries import (
    BEST,
    CONTROL_COST,
    CURVES,
    DOES_IT_WORK,
    EFFECTS,
    GAIN_COST,
    IN_ITSELF,
    LAYERS,
    MATRIX,
    MODES,
    OVERLAP,
    OWN_OR_ANY,
    PROFILE,
    RESOURCE_GAP,
    RESOURCES,
    SEARCH,
    SELF_CROSS,
    SIGNIFICANCE,
)

Draw = Callable[[pa.Table], Figure]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question of the report.

    Attributes:
        key: Name of the question's files and of its section on the page.
        title: The question.
        about: What the figure and the table show.
        sql: The query.
        observe: Says what one sees in the figure or the table.
        draw: Draws the table; None for a table only.
        add: Adds statistics to the table that SQL cannot compute.
        max_rows: Rows of the table in the report; the CSV and LaTeX files have all rows.
    """

    key: str
    title: str
    about: str
    sql: str
    observe: Callable[[pa.Table], str]
    draw: Draw | None = None
    add: Callable[[pa.Table], pa.Table] | None = None
    max_rows: int = 40


QUESTIONS = (
    Question(
        key="does_it_work",
        title="Does it work?",
        about="Each way to steer to a target language, at its best intervention: the largest mean LSS and, of equal "
        "ones or without LSS, the best language control. Control: the share of generated texts in the target "
        "language, a bar for the unsteered model. Quality: what is known of the texts. Accuracy and nll: differences "
        "to the unsteered model in other abilities, with 0 for no loss. LSS has its line at 0.5, the value of an edit "
        "without direction; a high LSS without control means that the text did not change its language. Means over "
        "the data languages other than the target, with pooled 95 % intervals. The head of a column names the metric, "
        "and the number of items that a value in one data language rests on.",
        sql=DOES_IT_WORK,
        observe=methods_seen,
        draw=method_dots,
        max_rows=200,
    ),
    Question(
        key="control_cost",
        title="What does language control cost?",
        about="The share of generated texts in the target language against what is lost in another ability, both in "
        "the data languages other than the target: the best corner is the upper left. One plot for each target, and "
        "one for their mean, with 95 % intervals. The line "
        "joins the methods that no other one surpasses in both (the Pareto front; on_front in the table).",
        sql=CONTROL_COST,
        observe=costs_seen,
        draw=control_and_cost,
        max_rows=200,
    ),
    Question(
        key="significance",
        title="Which differences are significant?",
        about="Differences to the unsteered model at the best intervention of each target, in the language itself "
        f"(self) and in the others (cross). A difference is significant if p < {ALPHA} after Holm's correction over "
        "languages, and if its interval excludes zero. Where the control repeat ran, it is within noise if it is not "
        "larger than the difference between the unsteered model and its repeat in other batches. mde is the "
        "minimum detectable effect at 80 % power: smaller effects may exist that these items cannot show, and a "
        "significant difference below it is likely overestimated (below_mde).",
        sql=SIGNIFICANCE,
        observe=significance_seen,
    ),
    Question(
        key="best_factor",
        title="Which factor is best for each target language?",
        about="For every metric of which one direction is better, in the language itself, and for LSS, language "
        "control, accuracy and nll in the other languages: the factor with the best mean over data languages. Of "
        "equally good "
        "factors (tied: the others) it is the one with the best language control, then with the largest relative gain "
        "in the language itself, then the smallest. A factor with values in fewer data languages than another one "
        "comes after it (incomplete). The value is optimistic, because the items that it is measured on chose the "
        "factor; held_out is not: the items are divided into five parts, and each part is measured at the factor that "
        "is the best on the others. BLEU, chrF++ and pass rates, which are no means over items, have none. Controls "
        "do not count; their mean at the same factor is shown for comparison, that of random neurons with its "
        "smallest and largest value over several draws, and so is the value of the unsteered model. The following "
        "sections use each target's best intervention: by LSS, then by language control, then by the relative gain in "
        "the language itself.",
        sql=BEST,
        observe=best_seen,
        max_rows=200,
    ),
    Question(
        key="lss_matrix",
        title="Where does the language shift?",
        about="LSS(L to T) at the best intervention of T: the share of facts whose object in T became likelier "
        "after a premise in L.",
        sql=MATRIX,
        observe=matrix_seen,
        draw=lambda table: heat_map(
            table, rows="base language L", columns="target language T", low=0, high=1, middle=0.5
        ),
    ),
    Question(
        key="own_or_any",
        title="Is it the language's own neurons?",
        about="LSS at the best intervention, over all facts and base languages, compared with the same intervention "
        "on as many random neurons (the mean over their draws) and on the neurons of another language, and with the "
        "own neurons set to 0. n is the number of pairs of fact and base language; only_own and only_control are the "
        "pairs that shifted with one and not with the other. The test flips the signs of whole facts, "
        "because the answers about one fact in several base languages are not independent; with one base language and "
        "one draw it is McNemar's exact test. p_holm is corrected over the languages.",
        sql=OWN_OR_ANY,
        observe=controls_seen,
        add=with_sign_flips,
        draw=control_dots,
    ),
    Question(
        key="factor_curves",
        title="How does the effect depend on the factor?",
        about="Means over data languages, the target's own apart: LSS itself, for every other metric the difference to "
        "the unsteered model on the same items. Bands of the own neurons: 95 % intervals over items, which pool those "
        "of the languages and are widened because languages share their items, as in the first section.",
        sql=CURVES,
        observe=curves_seen,
        draw=lambda table: curves(table, x_label="factor", y_label="mean effect"),
    ),
    Question(
        key="effect_matrix",
        title="What does steering to one language do to the others?",
        about="The difference to the unsteered model on the same items, at the best intervention of each target. "
        "Framed: the language itself (self); all other cells are cross. n is the number of items of a cell. Blue is an "
        "improvement, red a deterioration; "
        "purple and orange are an increase and a decrease of metrics of which neither direction is better, such as the "
        "share of texts that stay in the language of the data. What is not significant is pale.",
        sql=EFFECTS,
        observe=effects_seen,
        draw=lambda table: difference_maps(table, rows="data language", columns="target language"),
    ),
    Question(
        key="self_cross",
        title="Self against cross: what does a language gain in itself, and what do the others?",
        about="Each target language at its best intervention. Self: the difference to the unsteered model in the "
        "language itself, with its 95 % bootstrap interval over items. Cross: the mean difference in the others, with "
        "the interval of that mean over items, as in the first section. p-values are of self, Holm-corrected over "
        "languages; effect is Cohen's g of accuracies, d_z of means; noise, mde and conclusion are of self.",
        sql=SELF_CROSS,
        observe=self_and_cross_seen,
        draw=self_and_cross,
    ),
    Question(
        key="in_itself",
        title="What does each method do in the language itself?",
        about="Each way to steer to a target language at its best intervention, as in the first section, and the "
        "controls at that one, on data in the target language: the value, that of the unsteered model, and their "
        "difference on the same items with its 95 % interval. p-values are Holm-corrected over languages; effect is "
        "Cohen's g of accuracies, d_z of means. Several draws of random neurons are averaged and have no p-value.",
        sql=IN_ITSELF,
        observe=in_itself_seen,
        max_rows=200,
    ),
    Question(
        key="gain_cost",
        title="Gain against cost: what is paid elsewhere for steering well?",
        about="By factor: the gain in the target language, against the mean improvement in the other languages; "
        "below 0 they get worse. The language of the text is left out, because its change is what steering is for. A "
        "dot is a target language, a marker the mean over targets.",
        sql=GAIN_COST,
        observe=gain_and_cost_seen,
        draw=gain_and_cost,
    ),
    Question(
        key="resources",
        title="Do languages with few resources gain more?",
        about="The effect on the target language itself (LSS: the mean over base languages) at its best "
        "intervention. Classes are those of NLLB Team et al. (2022), table 1, unless others were named; languages "
        "without a class are left out.",
        sql=RESOURCES,
        observe=classes_seen,
        draw=strip_plot,
    ),
    Question(
        key="resource_gap",
        title="High- against low-resource languages, tested",
        about="Means over target languages. The difference is low minus high, g is its size in standard deviations "
        "(Hedges), and p is that of a permutation test that exchanges languages between the classes.",
        sql=RESOURCE_GAP,
        observe=gap_seen,
        add=with_permutation_test,
    ),
    Question(
        key="layer_profile",
        title="Which layers matter?",
        about="The mean effect over data languages, the target's own apart, of one layer's neurons alone, for sweeps "
        "with layers: each.",
        sql=PROFILE,
        observe=curves_seen,
        draw=lambda table: curves(table, x_label="layer", y_label="mean effect"),
    ),
    Question(
        key="neurons_by_layer",
        title="Where are the neurons?",
        about="Neurons of each language in each layer, or their share of the layer where layers differ in width.",
        sql=LAYERS,
        observe=layers_seen,
        draw=layer_map,
    ),
    Question(
        key="overlap",
        title="Which languages share neurons?",
        about="Jaccard index: the number of shared neurons divided by the number of neurons of either language.",
        sql=OVERLAP,
        observe=overlap_seen,
        draw=lambda table: heat_map(table, rows="language", columns="language", low=0, high=1),
    ),
    Question(
        key="search",
        title="How did the search get there?",
        about="Means by rung: over all data languages (value), which of its metric the search compares, and apart in "
        "the language itself (self) and in the others (cross); items is the largest number of items in one data "
        "language. Factors that are missing in the next rung were dropped. The sections above use the last rung, with "
        "all items.",
        sql=SEARCH,
        observe=search_seen,
    ),
    Question(
        key="modes",
        title="What do the published mistakes change?",
        about="The same cells in both modes, if the sweep has both: mean values, and the mean and the largest "
        "difference of paper to corrected. In mode paper, factors are truncated to integers.",
        sql=MODES,
        observe=modes_seen,
    ),
)
