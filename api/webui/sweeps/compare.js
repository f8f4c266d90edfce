/** Two sweeps compared: the values of the cells that both have. */

import { readAddress, setParams } from "../address.js";
import { errorMessage, field, h, select } from "../dom.js";
import { keptSelect } from "../figures/choices.js";
import { exportLinks } from "../figures/export.js";
import { distinct, interventionText, methodText, metricText, steeredRows } from "../figures/rows.js";
import { json } from "../rest.js";

const SHOWN = 200;
const TITLES = ["Data", "Target", "Method", "Intervention", "This", "Other", "Difference", "Intervals"];

/** Return a select of another sweep, and the table of the cells that both have; `rows` are those of this sweep. */
export function comparison(sweep, rows, signal) {
  const place = h("div", { class: "compare" });
  let specs = {}; // of the other sweeps, by their ids
  const other = select("with", [["", "no other"]]);
  other.addEventListener("change", () => {
    setParams({ with: other.value });
    show();
  });

  async function loadSweeps() {
    try {
      const { data } = await json("v1/sweeps?limit=100", { signal });
      const ended = data.filter(({ id, status, expired_at: expired }) => id !== sweep.id && status === "completed" && expired === null);
      specs = Object.fromEntries(ended.map(({ id, spec }) => [id, spec]));
      other.append(...ended.map(({ id, name, spec }) => h("option", { value: id }, `${name} (${spec.model}, ${id.slice(0, 14)})`)));
      other.disabled = !ended.length;
      if (!ended.length) place.replaceChildren(h("p", { class: "note" }, "No other completed sweep has results."));
      const wanted = readAddress().params.get("with");
      if (ended.some(({ id }) => id === wanted)) {
        other.value = wanted;
        await show();
      } else if (wanted) {
        place.replaceChildren(h("p", { class: "warning" }, `The link compares with ${wanted}, which is no completed sweep with results.`));
      }
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(errorMessage(error));
    }
  }

  async function show() {
    const id = other.value;
    place.replaceChildren();
    if (!id) return;
    try {
      const summary = await json(`v1/sweeps/${encodeURIComponent(id)}/summary`, { signal });
      if (id !== other.value) return; // another one was chosen meanwhile
      place.replaceChildren(differencesNote(sweep.spec, specs[id]), ...tables(steeredRows(rows), steeredRows(summary.rows)));
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(errorMessage(error));
    }
  }

  loadSweeps();
  return [h("h3", {}, "Compare"), h("div", { class: "row" }, field("With", other)), place];
}

/** The columns that say what a row is about; those of the sweep as a whole, such as its model, may differ. */
const CONDITION = [
  ...["task", "task_options", "metric", "mode", "data_language", "target_language", "method", "selection", "random_seed"],
  ...["control_language", "op", "patch", "statistic", "factor", "weights", "layers", "neuron_layer", "neuron_index"],
  ...["tokens", "when", "part"],
];

/** Return what the same cell has in both sweeps: everything but its values. */
const keyOf = (row) => JSON.stringify(CONDITION.map((name) => row[name] ?? null));

/** Return in what the specs differ that no column of a summary says, as the names of keys. */
function differences(spec, other) {
  const of = ({ model, adapter, neurons, interventions: { scope, non_target, source } }) =>
    Object.entries({ model, adapter, neurons, scope, non_target, source });
  const others = Object.fromEntries(of(other));
  const differs = ([name, value]) => JSON.stringify(value ?? null) !== JSON.stringify(others[name] ?? null);
  return of(spec).filter(differs).map(([name]) => name);
}

function differencesNote(spec, other) {
  const names = differences(spec, other);
  return names.length ? h("p", { class: "note" }, `The specs also differ in ${names.join(", ")}.`) : "";
}

/** Return a select of the metric, and the table of the pairs that have it, those that differ most first. */
function tables(own, others) {
  const byKey = new Map(others.map((row) => [keyOf(row), row]));
  const pairs = own.filter((row) => byKey.has(keyOf(row))).map((row) => [row, byKey.get(keyOf(row))]);
  if (!pairs.length) return [h("p", {}, "The two sweeps have no cell in common.")];
  const body = h("tbody");
  const metrics = distinct(pairs, ([row]) => metricText(row)).map((text) => [text, text]);
  const metric = keptSelect("Metric", "compared", metrics, draw);
  const lines = () =>
    pairs
      .filter(([row]) => metricText(row) === metric.control.value)
      .sort((a, b) => Math.abs(b[1].value - b[0].value) - Math.abs(a[1].value - a[0].value))
      .map(line);
  function draw() {
    body.replaceChildren(...lines().slice(0, SHOWN).map((texts) => h("tr", {}, ...texts.map((text) => h("td", {}, text)))));
  }
  draw();
  const heads = TITLES.map((title) => h("th", { scope: "col" }, title));
  const table = h("table", { class: "compared" }, h("thead", {}, h("tr", {}, ...heads)), body);
  return [
    metric.element,
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Two sweeps compared" }, table),
    exportLinks("comparison", { table: () => [TITLES, ...lines()] }),
  ];
}

/** Return the texts of a line of the table, in the order of `TITLES`. */
function line([row, other]) {
  const known = row.ci_low !== null && other.ci_low !== null;
  const overlap = known && row.ci_low <= other.ci_high && other.ci_low <= row.ci_high;
  return [
    row.data_language,
    row.target_language,
    methodText(row),
    interventionText(row),
    value(row),
    value(other),
    (other.value - row.value).toFixed(3),
    known ? (overlap ? "overlap" : "do not overlap") : "unknown",
  ];
}

const value = (row) =>
  row.value.toFixed(3) + (row.ci_low === null ? "" : ` (${row.ci_low.toFixed(3)} to ${row.ci_high.toFixed(3)})`) + `, n ${row.n}`;
