/** The view of one sweep: its progress, live from its events, and its results once it has ended. */

import { errorMessage, h, languageName } from "./dom.js";
import { heatMaps } from "./heat_maps.js";
import { events, json, listAll, request } from "./rest.js";
import { hasFailures, progress, status } from "./sweep_parts.js";

const ENDED = new Set(["completed", "failed", "cancelled"]);
const ACTIONS = { in_progress: ["pause", "cancel"], validating: ["cancel"], paused: ["resume", "cancel"] };
const REFRESH_MS = 1000;

/** Show the view of the sweep `id`; `signal` ends it. */
export async function sweepView(main, { signal, id }) {
  const path = `v1/sweeps/${encodeURIComponent(id)}`;
  const head = h("section");
  const results = h("section", { class: "results" });
  const message = h("div");

  async function refresh() {
    const sweep = await json(path, { signal });
    const buttons = (ACTIONS[sweep.status] ?? []).map((name) =>
      h("button", { type: "button", name, onclick: () => act(name) }, name),
    );
    head.replaceChildren(
      h("h2", {}, sweep.name),
      h("p", {}, status(sweep), progress(sweep), ...buttons),
      sweep.error ? errorMessage({ message: sweep.error }) : "",
      ...sweep.errors.filter(({ code }) => code === "completed_with_failures").map((error) => failure(error.message)),
      hasFailures(sweep) && ENDED.has(sweep.status) ? failedCells(path, signal) : "",
      ...sweep.warnings.map((text) => h("p", { class: "warning" }, text)),
      h("details", {}, h("summary", {}, "Spec"), h("pre", {}, JSON.stringify(sweep.spec, null, 2))),
    );
    return sweep;
  }

  async function act(name) {
    try {
      await request(`${path}/${name}`, { method: "POST", signal });
      await refresh();
      message.replaceChildren();
    } catch (error) {
      message.replaceChildren(errorMessage(error));
    }
  }

  main.replaceChildren(h("p", {}, h("a", { href: "#sweeps" }, "All sweeps")), head, message, results);
  let lastEvent = 0;
  while (!signal.aborted) {
    try {
      const sweep = await refresh();
      if (ENDED.has(sweep.status)) {
        results.replaceChildren(...(sweep.status === "cancelled" ? [] : await resultElements(path, sweep, signal)));
        return;
      }
      const response = await request(`${path}/events`, { headers: { "Last-Event-ID": String(lastEvent) }, signal });
      let refreshed = 0;
      for await (const event of events(response)) {
        lastEvent = Number(event.id);
        if (performance.now() - refreshed < REFRESH_MS) continue;
        refreshed = performance.now();
        await refresh();
      }
    } catch (error) {
      if (signal.aborted) return;
      message.replaceChildren(errorMessage(error));
      if (error.status === 404) return;
    }
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
  }
}

const failure = (text) => h("p", { class: "failures", role: "alert" }, text);

/** Return a table of the cells that failed or have failed samples, with reasons; it is fetched when it is opened. */
function failedCells(path, signal) {
  const list = h("tbody");
  const titles = ["Cell", "Task", "Steered to", "Failed", "Reason"];
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...titles.map((title) => h("th", {}, title)))), list);
  const details = h("details", { class: "failures" }, h("summary", {}, "What failed, and why"), table);
  details.addEventListener("toggle", async () => {
    if (!details.open) return;
    try {
      const cells = await listAll(`${path}/cells`, { failures: true }, { signal });
      list.replaceChildren(
        ...cells.map((cell) => {
          const steered = steeredText(cell);
          const count = cell.error ? "the cell" : `${cell.failed_samples} of ${cell.samples} samples`;
          const reason = cell.error ?? cell.sample_error;
          const texts = [cell.id, `${cell.task.name} ${cell.task.data_language}`, steered, count, reason];
          return h("tr", {}, ...texts.map((text) => h("td", {}, text)));
        }),
      );
    } catch (error) {
      if (!signal.aborted) details.append(errorMessage(error));
    }
  });
  return details;
}

/** Return what a cell does to the unsteered model; empty for the baseline. */
function steeredText({ intervention, instruction, method }) {
  if (instruction) return `${instruction.language} ${method}`;
  if (!intervention) return method ?? "";
  const { languages, op, factor, patch, statistic, vector, selection, neuron } = intervention;
  const codes = (Array.isArray(languages) ? languages : Object.keys(languages)).join(" + ");
  const value = [patch, statistic, vector].filter(Boolean).map((name) => ` ${name}`);
  const single = neuron ? `, neuron ${neuron[1]} of layer ${neuron[0]}` : "";
  return `${codes} ${op}${value.join("")} × ${factor}${selection ? `, ${selection}` : ""}${single}`;
}

async function resultElements(path, sweep, signal) {
  if (sweep.expired_at !== null) return [h("p", {}, "The results of this sweep have expired.")];
  const { rows, best_factors: best } = await json(`${path}/summary`, { signal });
  return [
    h(
      "p",
      {},
      download("Samples (Parquet)", `${path}/results`, `${sweep.id}.parquet`),
      download("Summary (CSV)", `${path}/summary?format=csv`, `${sweep.id}-summary.csv`),
    ),
    ...heatMaps(rows),
    best.length ? bestFactors(best) : "",
  ];
}

/** Return a table of the best factor for each target language: the one with the best mean value. */
function bestFactors(best) {
  const titles = ["Target", "Intervention", "Best factor", `Mean ${best[0].metric.toUpperCase()}`, "Data languages"];
  const lines = best.map(({ target_language: target, op, patch, statistic, factor, value, languages }) => [
    languageName(target),
    [op, patch, statistic].filter(Boolean).join(" "),
    factor,
    value.toFixed(3),
    languages,
  ]);
  return h(
    "table",
    { class: "best" },
    h("caption", {}, "The best factor for each target language"),
    h("thead", {}, h("tr", {}, ...titles.map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, ...lines.map((line) => h("tr", {}, ...line.map((text) => h("td", {}, String(text)))))),
  );
}

/** Return a link that downloads a file with the API key, which a plain link would not send. */
function download(text, path, name) {
  const link = h("a", { href: path, download: name }, text);
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await (await request(path)).blob());
      h("a", { href: url, download: name }).click();
      URL.revokeObjectURL(url);
    } catch (error) {
      link.after(errorMessage(error));
    }
  });
  return link;
}
