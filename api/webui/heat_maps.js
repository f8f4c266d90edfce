/** Heat maps of a summary: data languages in rows, target languages in columns, the effect as colour. */

import { field, h, languageName, select } from "./dom.js";

const INTERVENTION_COLUMNS = ["op", "patch", "statistic", "factor", "weights", "layers", "mode"];
const ASPECTS = [
  ["Metric", "measure", (row) => `${row.task}${row.task_options ? ` (${row.task_options})` : ""}: ${row.metric}`],
  ["Method", "selection", methodText],
  ["Intervention", "shape", interventionText],
];

/** Return selects for metric, neurons and intervention, and the heat map of the selected rows of a summary. */
export function heatMaps(rows) {
  const steered = rows.filter(
    ({ target_language: target, value, factor, method }) =>
      target !== null && value !== null && (factor !== null || (method ?? "repeat") !== "repeat"),
  );
  if (!steered.length) return [h("p", {}, "No steered cell has a value to show.")];
  const table = h("div", { class: "scroll" });
  const choices = ASPECTS.map(([label, name, of]) => {
    const values = distinct(steered, of).map((value) => [value, value]);
    return { label, of, control: select(name, values) };
  });
  function draw() {
    table.replaceChildren(map(steered.filter((row) => choices.every(({ of, control }) => of(row) === control.value))));
  }
  const fields = choices.map(({ label, control }) => field(label, control));
  draw();
  return [h("div", { class: "row", onchange: draw }, ...fields), table];
}

const distinct = (rows, of) => [...new Set(rows.map(of))];

/** Return what steers: the language's own neurons, those of a control, a vector, or an instruction. */
function methodText(row) {
  const draw = Number.isInteger(row.random_seed) ? ` (seed ${row.random_seed})` : "";
  const control = row.selection ? `${row.selection}${draw}` : "";
  const onNeurons = (row.method ?? "neurons") === "neurons";
  return onNeurons ? control || "own neurons" : [row.method, control].filter(Boolean).join(" ");
}

/** Return the columns of an intervention as text, without those that have their default; a dash for an instruction. */
function interventionText(row) {
  const defaults = { layers: "all", scope: "all", mode: "corrected" };
  const isSet = (name) => row[name] !== null && row[name] !== undefined && row[name] !== defaults[name];
  return INTERVENTION_COLUMNS.filter(isSet)
    .map((name) => (["op", "factor"].includes(name) ? row[name] : `${name} ${row[name]}`))
    .concat(Number.isInteger(row.neuron_layer) ? [`neuron ${row.neuron_index} of layer ${row.neuron_layer}`] : [])
    .join(" ") || "–";
}

function map(rows) {
  const targets = distinct(rows, (row) => row.target_language).sort();
  const languages = distinct(rows, (row) => row.data_language).sort();
  const cell = new Map(rows.map((row) => [`${row.data_language}\n${row.target_language}`, row]));
  const largest = Math.max(...rows.map((row) => Math.abs(change(row))), 1e-9);
  return h(
    "table",
    { class: "map" },
    h("caption", {}, caption(rows)),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "data \\ target"),
        ...targets.map((target) => h("th", { scope: "col", title: languageName(target) }, target)),
      ),
    ),
    h(
      "tbody",
      {},
      ...languages.map((language) =>
        h(
          "tr",
          {},
          h("th", { scope: "row", title: languageName(language) }, language),
          ...targets.map((target) => tableCell(cell.get(`${language}\n${target}`), largest)),
        ),
      ),
    ),
  );
}

/**
 * Return the value that the colour shows: the difference from the unsteered model or, for a metric that is a difference
 * itself, from its value without effect.
 */
function change(row) {
  return row.delta ?? row.value - (row.no_effect ?? 0);
}

function caption(rows) {
  const { delta, no_effect: noEffect, higher_is_better: higher } = rows[0] ?? {};
  const what =
    delta === null && noEffect !== null
      ? `difference from ${noEffect}, the value of an intervention without effect`
      : "difference from the unsteered model";
  const colours = higher === null ? "blue, because neither direction is better" : "green is better, red is worse";
  return `Number: value. Colour: ${what} (${colours}).`;
}

function tableCell(row, largest) {
  if (row === undefined) return h("td", {});
  const effect = change(row);
  const better = row.higher_is_better === null ? null : row.higher_is_better === effect >= 0;
  const difference = row.delta === null ? "" : `; ${describedDifference(row)}`;
  const element = h(
    "td",
    {
      class: better === null ? "neutral" : better ? "up" : "down",
      title: `${row.value.toFixed(3)}${interval(row.ci_low, row.ci_high)}${difference}; ${row.n} items`,
    },
    row.value.toFixed(2),
  );
  element.style.setProperty("--share", Math.min(1, Math.abs(effect) / largest).toFixed(3));
  return element;
}

/** Return the difference from the unsteered model, with what else could have caused it and what could have been seen. */
function describedDifference(row) {
  const { delta, delta_ci_low: low, delta_ci_high: high } = row;
  const noise = row.noise ?? null;
  const mde = row.mde ?? null;
  const parts = [`difference ${signed(delta)}${interval(low, high)}`];
  if (noise !== null) parts.push(`noise ${noise.toFixed(3)}`);
  if (mde !== null) parts.push(`detectable from ${mde.toFixed(3)}`);
  if (low !== null && ((low <= 0 && high >= 0) || Math.abs(delta) <= (noise ?? -1))) parts.push("no effect above noise");
  return parts.join(", ");
}

const signed = (value) => `${value >= 0 ? "+" : ""}${value.toFixed(3)}`;

function interval(low, high) {
  return low === null ? "" : ` (95 % ${low.toFixed(3)} to ${high.toFixed(3)})`;
}
