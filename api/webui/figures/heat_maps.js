/** Heat maps of a summary: data languages in rows, target languages in columns, the effect as colour. */

import { h } from "../dom.js";
import { keptSelect } from "./choices.js";
import { exportLinks } from "./export.js";
import { gridPicture, gridTable } from "./grid.js";
import { distinct, effect, inconclusive, interventionText, isShare, methodText, metricText, steeredRows, tone } from "./rows.js";

const ASPECTS = [
  ["Metric", "measure", metricText],
  ["Method", "selection", methodText],
  ["Intervention", "shape", (row) => interventionText(row)],
];
const CSV_COLUMNS = [
  "task", "metric", "data_language", "target_language", "value", "ci_low", "ci_high", "baseline", "delta",
  "delta_ci_low", "delta_ci_high", "p_value", "p_holm", "n", "noise", "mde",
];
/** The difference that has the full colour, for shares and by the beginning of other metrics' names. */
const SHARE_SPAN = 0.5;
const SPANS = [["nll", 1], ["bleu", 20], ["chrf", 20]];
/** The strongest colour of a difference that is not significant, as a share of the full colour. */
const PALE = 0.15;
const MARKS = { "not significant": ", n.s.", "within noise": ", noise" };

/** Return selects for metric, neurons and intervention, and the heat map of the selected rows of a summary. */
export function heatMaps(rows) {
  const steered = steeredRows(rows);
  if (!steered.length) return [h("p", {}, "No steered cell has a value to show.")];
  const table = h("div", { class: "scroll heat-map", tabIndex: 0, role: "region", "aria-label": "Heat map" });
  const choices = ASPECTS.map(([label, name, of]) => {
    const values = distinct(steered, of).map((value) => [value, value]);
    return { of, ...keptSelect(label, name, values, draw) };
  });
  const selected = () => steered.filter((row) => choices.every(({ of, control }) => of(row) === control.value));
  function draw() {
    table.replaceChildren(gridTable(grid(selected())));
  }
  draw();
  const links = exportLinks("heat-map", {
    svg: () => gridPicture(grid(selected())),
    table: () => [CSV_COLUMNS, ...selected().map((row) => CSV_COLUMNS.map((name) => row[name]))],
  });
  return [h("div", { class: "row" }, ...choices.map(({ element }) => element)), table, links];
}

function grid(rows) {
  const largest = span(rows);
  return {
    corner: "data \\ target",
    caption: caption(rows),
    rows: distinct(rows, (row) => row.data_language).sort(),
    columns: distinct(rows, (row) => row.target_language).sort(),
    cells: new Map(rows.map((row) => [`${row.data_language}\n${row.target_language}`, cell(row, largest)])),
  };
}

/** Return the difference that has the full colour: a fixed one for the metric, unless there are larger ones. */
function span(rows) {
  const metric = rows[0]?.metric ?? "";
  const fixed = isShare(metric) ? SHARE_SPAN : (SPANS.find(([name]) => metric.startsWith(name))?.[1] ?? 0);
  const seen = rows.flatMap((row) => [Math.abs(effect(row)), row.mde ?? 0, row.noise ?? 0]);
  return Math.max(fixed, ...seen, 1e-9);
}

function caption(rows) {
  const { delta, no_effect: noEffect } = rows[0] ?? {};
  const what =
    delta === null && noEffect !== null
      ? `difference from ${noEffect}, the value of an intervention without effect`
      : "difference from the unsteered model";
  const tones = distinct(rows, tone);
  const directed = tones.some((each) => each !== "neutral") ? ["green is better, red is worse"] : [];
  const colours = [...directed, ...(tones.includes("neutral") ? ["blue, because neither direction is better"] : [])].join("; ");
  const pale = rows.some(inconclusive) ? " Pale: not significant (n.s.) after correction for several languages" : "";
  const noise = rows.some((row) => inconclusive(row) === "within noise") ? ", or within the noise of the repeat" : "";
  const marked = pale && `${pale}${noise}.`;
  return `Number: value, with its 95 % interval and the number of items. Colour: ${what} (${colours}).${marked}`;
}

function cell(row, largest) {
  const difference = row.delta === null ? "" : `; ${describedDifference(row)}`;
  return {
    value: row.value.toFixed(2),
    lines: [
      row.ci_low === null ? "" : `${row.ci_low.toFixed(2)} to ${row.ci_high.toFixed(2)}`,
      `n ${row.n}${MARKS[inconclusive(row)] ?? ""}`,
    ].filter(Boolean),
    tone: tone(row),
    share: Math.min(inconclusive(row) ? PALE : 1, Math.abs(effect(row)) / largest),
    title: `${row.value.toFixed(3)}${interval(row.ci_low, row.ci_high)}${difference}; ${row.n} items${row.note ? `; ${row.note}` : ""}`,
  };
}

/** Return the difference from the unsteered model, with what else could have caused it and what could have been seen. */
function describedDifference(row) {
  const { delta, delta_ci_low: low, delta_ci_high: high } = row;
  const noise = row.noise ?? null;
  const mde = row.mde ?? null;
  const parts = [`difference ${signed(delta)}${interval(low, high)}`];
  if (noise !== null) parts.push(`noise ${noise.toFixed(3)}`);
  if (mde !== null) parts.push(`detectable from ${mde.toFixed(3)}`);
  if ((row.p_holm ?? null) !== null) parts.push(`p ${row.p_holm.toFixed(3)} after correction`);
  if (inconclusive(row)) parts.push(inconclusive(row));
  return parts.join(", ");
}

const signed = (value) => `${value >= 0 ? "+" : ""}${value.toFixed(3)}`;

function interval(low, high) {
  return low === null ? "" : ` (95 % ${low.toFixed(3)} to ${high.toFixed(3)})`;
}
