/** The view of all sweeps, newest first. */

import { readAddress, setParams } from "../address.js";
import { errorMessage, field, h } from "../dom.js";
import { json } from "../rest.js";
import { sweepView } from "./sweep.js";
import { progress, status } from "./sweep_parts.js";

const POLL_MS = 2000;

/** Show the list of sweeps or, with an `id`, that sweep, until `signal` is aborted. */
export async function sweepsView(main, { signal, id }) {
  if (id) {
    await sweepView(main, { signal, id });
    return;
  }
  const list = h("tbody");
  const search = h("input", { type: "search", name: "search", oninput: onsearch });
  search.value = readAddress().params.get("search") ?? "";
  let sweeps = [];
  const message = h("div");
  main.replaceChildren(
    h("div", { class: "row" }, h("a", { class: "button", href: "#new" }, "New sweep"), field("Find by name, model or id", search)),
    message,
    h(
      "table",
      { class: "sweeps" },
      h(
        "thead",
        {},
        h("tr", {}, ...["Sweep", "Status", "Cells", "Samples", "Submitted"].map((title) => h("th", { scope: "col" }, title))),
      ),
      list,
    ),
  );
  function draw() {
    const shown = sweeps.filter((sweep) => matches(sweep, search.value));
    list.replaceChildren(...shown.map(tableRow));
    const text = sweeps.length ? "No sweep matches." : "No sweep has been submitted yet.";
    message.replaceChildren(shown.length ? "" : h("p", {}, text));
  }
  function onsearch() {
    setParams({ search: search.value });
    draw();
  }
  while (!signal.aborted) {
    try {
      const { data } = await json("v1/sweeps?limit=100", { signal });
      sweeps = data;
      draw();
    } catch (error) {
      if (!signal.aborted) message.replaceChildren(errorMessage(error));
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Return whether a sweep has a text in its name, its model or its id. */
const matches = ({ name, spec, id }, text) => `${name}\n${spec.model}\n${id}`.toLowerCase().includes(text.trim().toLowerCase());

function tableRow(sweep) {
  return h(
    "tr",
    {},
    h("td", {}, h("a", { href: `#sweeps/${sweep.id}` }, sweep.name), h("small", {}, sweep.spec.model)),
    h("td", {}, status(sweep)),
    h("td", {}, progress(sweep)),
    h("td", { class: "number" }, sweep.samples.toLocaleString()),
    h("td", {}, new Date(sweep.created_at * 1000).toLocaleString()),
  );
}
