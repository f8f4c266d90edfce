/** One sweep: how far it is, live from its events; when it has ended, what came out. */

import { complaint, h, languageName } from "./dom.js";
import { heatMaps } from "./heat_maps.js";
import { ask, events, json, listed } from "./rest.js";
import { hasFailures, progress, status } from "./sweep_parts.js";

const ENDED = new Set(["completed", "failed", "cancelled"]);
const CALLS = { in_progress: ["pause", "cancel"], validating: ["cancel"], paused: ["resume", "cancel"] };
const AGAIN = 1000;

/** Show the view of the sweep `id`; `signal` ends it. */
export async function sweepView(main, { signal, id }) {
  const path = `v1/sweeps/${encodeURIComponent(id)}`;
  const head = h("section");
  const results = h("section", { class: "results" });
  const said = h("div");

  async function look() {
    const sweep = await json(path, { signal });
    const calls = (CALLS[sweep.status] ?? []).map((name) =>
      h("button", { type: "button", name, onclick: () => call(name) }, name),
    );
    head.replaceChildren(
      h("h2", {}, sweep.name),
      h("p", {}, status(sweep), progress(sweep), ...calls),
      sweep.error ? complaint({ message: sweep.error }) : "",
      ...sweep.errors.filter(({ code }) => code === "completed_with_failures").map(({ message }) => failure(message)),
      hasFailures(sweep) && ENDED.has(sweep.status) ? failedCells(path, signal) : "",
      ...sweep.warnings.map((text) => h("p", { class: "warning" }, text)),
      h("details", {}, h("summary", {}, "Spec"), h("pre", {}, JSON.stringify(sweep.spec, null, 2))),
    );
    return sweep;
  }

  async function call(name) {
    try {
      await ask(`${path}/${name}`, { method: "POST", signal });
      await look();
      said.replaceChildren();
    } catch (error) {
      said.replaceChildren(complaint(error));
    }
  }

  main.replaceChildren(h("p", {}, h("a", { href: "#sweeps" }, "All sweeps")), head, said, results);
  let last = 0;
  while (!signal.aborted) {
    try {
      const sweep = await look();
      if (ENDED.has(sweep.status)) {
        results.replaceChildren(...(sweep.status === "cancelled" ? [] : await outcome(path, sweep, signal)));
        return;
      }
      const answer = await ask(`${path}/events`, { headers: { "Last-Event-ID": String(last) }, signal });
      let looked = 0;
      for await (const event of events(answer)) {
        last = Number(event.id);
        if (performance.now() - looked < AGAIN) continue;
        looked = performance.now();
        await look();
      }
    } catch (error) {
      if (signal.aborted) return;
      said.replaceChildren(complaint(error));
      if (error.status === 404) return;
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

const failure = (message) => h("p", { class: "failures", role: "alert" }, message);

/** The cells that failed or have failed samples, with their reasons; fetched when it is opened. */
function failedCells(path, signal) {
  const list = h("tbody");
  const titles = ["Cell", "Task", "Steered to", "Failed", "Reason"];
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...titles.map((title) => h("th", {}, title)))), list);
  const details = h("details", { class: "failures" }, h("summary", {}, "What failed, and why"), table);
  details.addEventListener("toggle", async () => {
    if (!details.open) return;
    try {
      const cells = await listed(`${path}/cells`, { failures: true }, { signal });
      list.replaceChildren(
        ...cells.map((cell) => {
          const asked = cell.intervention;
          const steered = asked ? `${[asked.languages].flat().join(" + ")} ${asked.op} × ${asked.factor}` : "";
          const count = cell.error ? "the cell" : `${cell.failed_samples} of ${cell.samples} samples`;
          const reason = cell.error ?? cell.sample_error;
          const texts = [cell.id, `${cell.task.name} ${cell.task.data_language}`, steered, count, reason];
          return h("tr", {}, ...texts.map((text) => h("td", {}, text)));
        }),
      );
    } catch (error) {
      if (!signal.aborted) details.append(complaint(error));
    }
  });
  return details;
}

async function outcome(path, sweep, signal) {
  if (sweep.expired_at !== null) return [h("p", {}, "Its results have expired.")];
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

/** For each target language the factor that moves the model furthest to it: the largest mean LSS. */
function bestFactors(best) {
  const titles = ["Target", "Intervention", "Best factor", "Mean LSS", "Base languages"];
  const lines = best.map(({ target_language: target, op, patch, factor, value, languages }) => [
    languageName(target),
    [op, patch].filter(Boolean).join(" "),
    factor,
    value.toFixed(3),
    languages,
  ]);
  return h(
    "table",
    { class: "best" },
    h("caption", {}, "The factor that moves the model furthest to each target"),
    h("thead", {}, h("tr", {}, ...titles.map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, ...lines.map((line) => h("tr", {}, ...line.map((text) => h("td", {}, String(text)))))),
  );
}

/** A link that fetches a file with the key, which a plain link would not send. */
function download(text, path, name) {
  const link = h("a", { href: path, download: name }, text);
  link.addEventListener("click", async (event) => {
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await (await ask(path)).blob());
      h("a", { href: url, download: name }).click();
      URL.revokeObjectURL(url);
    } catch (error) {
      link.after(complaint(error));
    }
  });
  return link;
}
