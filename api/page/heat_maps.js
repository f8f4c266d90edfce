/** A summary as heat maps: data languages down, target languages across, what the intervention changed as colour. */

import { field, h, languageName, select } from "./dom.js";

const SHAPE = ["op", "patch", "statistic", "factor", "layers", "scope", "mode"];
const ASPECTS = [
  ["Measure", "measure", (row) => `${row.task}: ${row.metric}`],
  ["Neurons", "selection", (row) => row.selection ?? "own neurons"],
  ["Intervention", "shape", shapeOf],
];
const LOWER_IS_BETTER = new Set(["perplexity"]);

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
  const largest = Math.max(...rows.map((row) => Math.abs(row.delta ?? row.value)), 1e-9);
  return h(
    "table",
    { class: "map" },
    h("caption", {}, "Value, and in colour its difference to the unsteered model"),
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

function square(row, largest) {
  if (row === undefined) return h("td", {});
  const delta = row.delta ?? row.value;
  const better = LOWER_IS_BETTER.has(row.metric) ? -delta : delta;
  const share = Math.min(1, Math.abs(delta) / largest);
  const interval = row.ci_low === null ? "" : `, 95 % ${row.ci_low.toFixed(3)} to ${row.ci_high.toFixed(3)}`;
  const against = row.delta === null ? "" : `, ${row.delta >= 0 ? "+" : ""}${row.delta.toFixed(3)} to unsteered`;
  const element = h(
    "td",
    { class: better >= 0 ? "up" : "down", title: `${row.n} items${interval}${against}` },
    row.value.toFixed(2),
  );
  element.style.setProperty("--share", share.toFixed(3));
  return element;
}
