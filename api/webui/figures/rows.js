/** What the rows of a summary say: the metric, whose neurons were edited, the intervention. */

const OWN = "own neurons";
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

/** Return the task with its options, and the metric. */
export const metricText = (row) => `${row.task}${row.task_options ? ` (${row.task_options})` : ""}: ${row.metric}`;

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

/** Return `up` for an improvement, `down` for the contrary, `neutral` if neither direction of the metric is better. */
export function tone(row) {
  if (row.higher_is_better === null) return "neutral";
  return row.higher_is_better === effect(row) >= 0 ? "up" : "down";
}

/** Return whether a difference could be noise: its interval includes 0, or it is within the noise floor. */
export function isWithinNoise({ delta, delta_ci_low: low, delta_ci_high: high, noise }) {
  if (delta === null || low === null) return false;
  return (low <= 0 && high >= 0) || Math.abs(delta) <= (noise ?? -1);
}
