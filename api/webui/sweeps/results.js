/** The results of an ended sweep: downloads, figures, best factors, samples, and another sweep beside it. */

import { errorMessage, h, languageName } from "../dom.js";
import { curves } from "../figures/curves.js";
import { exportLinks, save } from "../figures/export.js";
import { heatMaps } from "../figures/heat_maps.js";
import { layerProfile } from "../figures/layers.js";
import { json, key, listed, request } from "../rest.js";
import { comparison } from "./compare.js";
import { samplesBrowser } from "./samples.js";

/** The columns that say which tokens in the scope were edited. */
const TOKENS = ["tokens", "when", "part"];

/** What decides between factors that are equally good by the metric. */
const TIE_BREAKERS = { control: "language control", gain: "gain in the language itself", factor: "smaller factor" };

/** Return the elements that show the results of a sweep; `path` is its address. */
export async function resultElements(path, sweep, signal) {
  if (sweep.expired_at !== null) return [h("p", {}, "The results of this sweep have expired.")];
  const { rows, best_factors: best } = await json(`${path}/summary`, { signal });
  return [
    h(
      "p",
      { class: "links" },
      reportLink(`${path}/report`, sweep),
      download("Samples (Parquet)", `${path}/results`, `${sweep.id}.parquet`),
      download("Summary (CSV)", `${path}/summary?format=csv`, `${sweep.id}-summary.csv`),
    ),
    ...curves(rows),
    h("h3", {}, "Heat map"),
    ...heatMaps(rows),
    ...(best.length ? bestFactors(best) : []),
    profileOf(path, sweep, signal),
    ...comparison(sweep, rows, signal),
    ...samplesBrowser(path, rows, signal),
  ];
}

/** Return the layer profile of the sweep's neuron set, which appears once it is loaded. */
function profileOf(path, sweep, signal) {
  const place = h("section", { class: "layers" });
  neuronSetOf(path, sweep, signal)
    .then((set) => set && place.replaceChildren(...layerProfile(set)))
    .catch((error) => signal.aborted || place.replaceChildren(errorMessage(error)));
  return place;
}

async function neuronSetOf(path, sweep, signal) {
  const id = sweep.spec.neurons.id ?? (await firstNeurons(`${path}/cells`, signal));
  return id ? json(`v1/neuron-sets/${id}`, { signal }) : null;
}

/** Return the id of the neuron set of the first cell that has one; the baselines before it have none. */
async function firstNeurons(path, signal) {
  for await (const { neurons } of listed(path, {}, { signal })) if (neurons) return neurons;
  return null;
}

/** Return a table of the best factor for each target language: the one with the best mean value, those that equal it, and those with values in fewer languages. */
export function bestFactors(best) {
  const metric = best[0].metric.toUpperCase();
  const titles = ["Target", "Intervention", "Best factor", `Mean ${metric}`, "Data languages", "Equally good", "Fewer languages", "Chosen by"];
  const lines = best.map((row) => [
    languageName(row.target_language),
    [row.op, row.patch, row.statistic, ...TOKENS.map((name) => row[name] && `${name} ${row[name]}`)].filter(Boolean).join(" "),
    row.factor,
    row.value.toFixed(3),
    row.languages,
    row.tied.join(", ") || "–",
    row.incomplete.join(", ") || "–",
    TIE_BREAKERS[row.decided_by] ?? metric,
  ]);
  return [
    h("h3", {}, "Best factors"),
    h(
      "div",
      { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Best factors" },
      h(
        "table",
        { class: "best" },
        h("caption", {}, "The best factor for each target language"),
        h("thead", {}, h("tr", {}, ...titles.map((title) => h("th", { scope: "col" }, title)))),
        h("tbody", {}, ...lines.map((line) => h("tr", {}, ...line.map((text) => h("td", {}, String(text)))))),
      ),
    ),
    exportLinks("best-factors", { table: () => [titles, ...lines] }),
  ];
}

/** Return a link to the report. With an API key it is downloaded, because a link would not send the key. */
function reportLink(path, sweep) {
  if (key.get()) return download("Report (HTML)", path, `${sweep.id}-report.html`);
  return h("a", { href: path, target: "_blank", rel: "noopener", class: "report" }, "Report");
}

/** Return a link that downloads a file with the API key, which a plain link would not send. */
function download(text, path, name) {
  const link = h("a", { href: path, download: name }, text);
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    try {
      save(await (await request(path)).blob(), name);
    } catch (error) {
      link.after(errorMessage(error));
    }
  });
  return link;
}
