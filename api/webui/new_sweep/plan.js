/** What a sweep would cost, as a table. */

import { h } from "../dom.js";
import { count, duration, gibibytes } from "../format.js";

const COLUMNS = [
  ["Cells", "cells"],
  ["Computed already", "reused"],
  ["Requests", "requests"],
  ["Tokens read", "prompt_tokens"],
  ["Tokens generated, at most", "max_new_tokens"],
];

/** Return the elements that show a plan. */
export function planElements(plan) {
  const line = (title, numbers) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, title),
      ...COLUMNS.map(([, key]) => h("td", { class: "number", "data-column": key }, count(numbers[key]))),
    );
  const names = plan.tasks.map(({ task, options, mode }) => [task, options, mode === "paper" && "as published"]);
  return [
    h("p", { class: "plan-time" }, timeText(plan), plan.memory_bytes ? `, ${gibibytes(plan.memory_bytes)} of memory` : ""),
    h(
      "div",
      { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Plan by task" },
      h(
        "table",
        { class: "plan" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Task"), ...COLUMNS.map(([title]) => header(title)))),
        h("tbody", {}, ...plan.tasks.map((task, index) => line(names[index].filter(Boolean).join(", "), task))),
        h("tfoot", {}, line("Total", plan)),
      ),
    ),
    ...plan.warnings.map((text) => h("p", { class: "warning" }, text)),
    ...plan.notes.map((text) => h("p", { class: "note" }, text)),
  ];
}

const header = (title) => h("th", { scope: "col", class: "number" }, title);

function timeText({ seconds, seconds_from: source }) {
  return seconds === null ? `Time unknown: ${source}` : `About ${duration(seconds)}, estimated from ${source}`;
}
