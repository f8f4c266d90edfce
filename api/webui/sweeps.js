/** All sweeps, the newest first; one of them in full; a new one. */

import { complaint, h } from "./dom.js";
import { json } from "./rest.js";
import { sweepView } from "./sweep.js";
import { progress, status } from "./sweep_parts.js";

const LOOK_EVERY = 2000;
const EXAMPLE = {
  name: "first-look",
  model: "atlas",
  neurons: { method: "lape", corpus: "atlas", languages: ["en", "fr", "id", "ja", "ru", "tr"], top_rate: 0.05 },
  interventions: { languages: ["fr", "ja", "tr"], op: "set", factors: [0, 0.5, 3], controls: ["random"] },
  tasks: [{ name: "lss", languages: ["en", "id", "ru"], limit: 40 }],
};

/** Show the view; with an `id` that sweep. `signal` ends it. */
export async function sweepsView(main, { signal, id }) {
  if (id) {
    await sweepView(main, { signal, id });
    return;
  }
  const list = h("tbody");
  const said = h("div");
  main.replaceChildren(
    newSweep(),
    said,
    h(
      "table",
      { class: "sweeps" },
      h(
        "thead",
        {},
        h("tr", {}, ...["Sweep", "Status", "Cells", "Samples", "Sent"].map((title) => h("th", {}, title))),
      ),
      list,
    ),
  );
  while (!signal.aborted) {
    try {
      const { data } = await json("v1/sweeps?limit=100", { signal });
      list.replaceChildren(...data.map(line));
      said.replaceChildren(data.length ? "" : h("p", {}, "No sweep has been sent yet."));
    } catch (error) {
      if (!signal.aborted) said.replaceChildren(complaint(error));
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
}

function line(sweep) {
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

function newSweep() {
  const spec = h("textarea", { rows: 12, spellcheck: false, value: JSON.stringify(EXAMPLE, null, 2) });
  const said = h("div");
  const form = h("form", {}, spec, said, h("button", { type: "submit", class: "main" }, "Send"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const sweep = await json("v1/sweeps", { method: "POST", body: JSON.parse(spec.value) });
      location.hash = `sweeps/${sweep.id}`;
    } catch (error) {
      said.replaceChildren(complaint(error));
    }
  });
  return h("details", { class: "new" }, h("summary", {}, "New sweep"), form);
}
