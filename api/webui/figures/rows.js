/** What the rows of a summary say: the metric, whose neurons were edited, the intervention. */

const OWN = "own neurons";
const ALPHA = 0.05;
const INTERVENTION_COLUMNS = ["op", "patch", "statistic", "factor", "weights", "layers", "tokens", "when", "part", "mode"];

/** Return the rows of cells that were changed in some way and have a value, without steps of a search. */
export function steeredRows(rows) {
  return rows.filter(
    ({ target_language: target, value, factor, method, rung }) =>
      target !== null &&
      value !== null &&
      (rung ?? null) === null &&
      (factor !== null || (method ?? "repeat") !== "repeat"),
  );
}

/** Return the distinct values of a function of rows, in their order. */
export const distinct = (rows, of) => [...new Set(rows.map(of))];

/** Return the task with its options, and the metric unless it has the name of the task. */
export function metricText({ task, task_options: options, metric }) {
  const name = task === "perplexity" && metric === "nll" ? "log-perplexity" : task;
  return `${name}${options ? ` (${options})` : ""}${task === metric ? "" : `: ${metric}`}`;
}

/** Metrics whose values are from 0 to 1, as in `ampsweep/domain/metric_names.py`. */
const SHARES = new Set([
  "acc", "acc_bytes", "acc_mutual_info", "acc_norm", "accuracy", "exact_match", "f1", "in_data_language",
  "in_data_language_by_line", "in_data_script", "in_target_language", "in_target_language_by_line",
  "in_target_script", "lcpr", "lfs", "lpr", "lss", "relevance", "repetition", "target_lcpr", "target_lpr",
  "target_wpr", "wpr",
]);

/** The shares of texts in the language of the data, of which fewer are no deterioration if another language is steered to. */
const OF_DATA = new Set(["in_data_language", "in_data_language_by_line", "in_data_script", "lcpr", "lpr", "wpr"]);

/** Return whether all values of a metric are from 0 to 1. */
export const isShare = (metric) => SHARES.has(metric.split(",")[0]);

/** Return what steers: the language's own neurons, those of a control, a vector, or an instruction. */
export function methodText(row) {
  const draw = Number.isInteger(row.random_seed) ? ` (seed ${row.random_seed})` : "";
  const control = row.selection ? `${row.selection}${draw}` : "";
  const onNeurons = (row.method ?? "neurons") === "neurons";
  return onNeurons ? control || OWN : [row.method, control].filter(Boolean).join(" ");
}

/** Return what steers, without the seed of random neurons: several draws are one control. */
export const methodName = (row) => methodText(row).replace(/ \(seed \d+\)$/, "");

/** Return whether a method, or the name of a series that begins with one, is a control or another baseline. */
export const isControl = (name) => !name.startsWith(OWN);

/** Return the columns of an intervention as text, without those that have their default; a dash for an instruction. */
export function interventionText(row, columns = INTERVENTION_COLUMNS) {
  const defaults = { layers: "all", scope: "all", mode: "corrected" };
  const isSet = (name) => row[name] !== null && row[name] !== undefined && row[name] !== defaults[name];
  return (
    columns
      .filter(isSet)
      .map((name) => (["op", "factor"].includes(name) ? row[name] : `${name} ${row[name]}`))
      .concat(Number.isInteger(row.neuron_layer) ? [`neuron ${row.neuron_index} of layer ${row.neuron_layer}`] : [])
      .join(" ") || "–"
  );
}

/**
 * Return the effect of a row: the difference from the unsteered model or, for a metric that is a difference itself,
 * from its value without effect.
 */
export const effect = (row) => row.delta ?? row.value - (row.no_effect ?? 0);

/** Return whether the data of a row are in the language that is steered to, or in one of several (`fr+it`). */
export const isSelf = (row) => row.target_language.split("+").includes(row.data_language);

/** Return `up` for an improvement, `down` for the contrary, `neutral` if neither direction of the metric is better. */
export function tone(row) {
  if (row.higher_is_better === null || (OF_DATA.has(row.metric.split(",")[0]) && !isSelf(row))) return "neutral";
  return row.higher_is_better === effect(row) >= 0 ? "up" : "down";
}

/**
 * Return why a difference shows no effect, as the report does (`jobs/report/sql/views.py`): "not significant" or, if a
 * control `repeat` measured noise, "within noise"; null if it shows one, or if it has neither an interval nor a test.
 */
export function inconclusive({ delta, delta_ci_low: low, delta_ci_high: high, p_holm: p, mde, noise }) {
  if (delta === null) return null;
  if (delta === 0) return "not significant";
  const isTested = (p ?? null) !== null;
  if (low === null && !isTested) return null;
  const fails = isTested ? p >= ALPHA : Math.abs(delta) < (mde ?? 0);
  if (fails || (low !== null && low <= 0 && high >= 0)) return "not significant";
  return Math.abs(delta) <= (noise ?? -1) ? "within noise" : null;
}
