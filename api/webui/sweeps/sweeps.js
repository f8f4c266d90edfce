/** The view of all sweeps, newest first. */

import { errorMessage, h } from "../dom.js";
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
  const message = h("div");
  main.replaceChildren(
    h("p", {}, h("a", { class: "button", href: "#new" }, "New sweep")),
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
  while (!signal.aborted) {
    try {
      const { data } = await json("v1/sweeps?limit=100", { signal });
      list.replaceChildren(...data.map(tableRow));
      message.replaceChildren(data.length ? "" : h("p", {}, "No sweep has been submitted yet."));
    } catch (error) {
      if (!signal.aborted) message.replaceChildren(errorMessage(error));
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

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
