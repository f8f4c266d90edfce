/** A summary as heat maps: data languages down, target languages across, what the intervention changed as colour. */

import { field, h, languageName, select } from "./dom.js";

const SHAPE = ["op", "patch", "statistic", "factor", "layers", "scope", "mode"];
const ASPECTS = [
  ["Measure", "measure", (row) => `${row.task}: ${row.metric}`],
  ["Neurons", "selection", (row) => row.selection ?? "own neurons"],
  ["Intervention", "shape", shapeOf],
];

/** Return selects of what to look at and the map of it, for the rows of a summary. */
export function heatMaps(rows) {
  const steered = rows.filter((row) => row.target_language !== null && row.value !== null && row.factor !== null);
  if (!steered.length) return [h("p", {}, "No steered cell has a value.")];
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

function shapeOf(row) {
  const plain = { layers: "all", scope: "all", mode: "corrected" };
  return SHAPE.filter((name) => row[name] !== null && row[name] !== undefined && row[name] !== plain[name])
    .map((name) => (["op", "factor"].includes(name) ? row[name] : `${name} ${row[name]}`))
    .join(" ");
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
          ...targets.map((target) => square(cell.get(`${language}\n${target}`), largest)),
        ),
      ),
    ),
  );
}

/** What the colour shows: the difference to the unsteered model; of a metric that is one itself, to its no-effect value. */
function change(row) {
  return row.delta ?? row.value - (row.no_effect ?? 0);
}

function caption(rows) {
  const { delta, no_effect: noEffect, higher_is_better: higher } = rows[0] ?? {};
  const what =
    delta === null && noEffect !== null
      ? `its difference to ${noEffect}, the value of an edit without direction`
      : "its difference to the unsteered model";
  const colours = higher === null ? "blue, since neither direction is better" : "green is better, red is worse";
  return `Value, and in colour ${what} (${colours})`;
}

function square(row, largest) {
  if (row === undefined) return h("td", {});
  const moved = change(row);
  const better = row.higher_is_better === null ? null : row.higher_is_better === moved >= 0;
  const difference = row.delta === null ? "" : `; to unsteered ${signed(row.delta)}${interval(row.delta_ci_low, row.delta_ci_high)}`;
  const element = h(
    "td",
    {
      class: better === null ? "neutral" : better ? "up" : "down",
      title: `${row.value.toFixed(3)}${interval(row.ci_low, row.ci_high)}${difference}; ${row.n} items`,
    },
    row.value.toFixed(2),
  );
  element.style.setProperty("--share", Math.min(1, Math.abs(moved) / largest).toFixed(3));
  return element;
}

const signed = (value) => `${value >= 0 ? "+" : ""}${value.toFixed(3)}`;

function interval(low, high) {
  return low === null ? "" : ` (95 % ${low.toFixed(3)} to ${high.toFixed(3)})`;
}
