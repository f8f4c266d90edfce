/** The cells of a sweep that failed or have failed samples, with reasons, and a retry. */

import { errorMessage, h } from "../dom.js";
import { json, listAll } from "../rest.js";

const TITLES = ["Cell", "Task", "Steered to", "Failed", "Reason"];

/** Return a table of the cells with failures; it is fetched when it is opened. */
export function failedCells(path, sweep, signal) {
  const list = h("tbody");
  const heads = TITLES.map((title) => h("th", { scope: "col" }, title));
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads)), list);
  const details = h(
    "details",
    { class: "failures" },
    h("summary", {}, "What failed, and why"),
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Failed cells" }, table),
    sweep.request_counts.failed ? retry(sweep, signal) : "",
  );
  details.addEventListener("toggle", async () => {
    if (!details.open) return;
    try {
      const cells = await listAll(`${path}/cells`, { failures: true }, { signal });
      list.replaceChildren(...cells.map(tableRow));
    } catch (error) {
      if (!signal.aborted) details.append(errorMessage(error));
    }
  });
  return details;
}

function tableRow(cell) {
  const failed = cell.error ? "the cell" : `${cell.failed_samples} of ${cell.samples} samples`;
  const reason = cell.error ?? cell.sample_error;
  const texts = [cell.id, `${cell.task.name} ${cell.task.data_language}`, steeredText(cell), failed, reason];
  return h("tr", {}, ...texts.map((text) => h("td", {}, text)));
}

/** Return a button that submits the spec again: completed cells are reused, and failed ones are computed again. */
function retry(sweep, signal) {
  const button = h("button", { type: "button", name: "retry" }, "Retry the failed cells");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const { id } = await json("v1/sweeps", { method: "POST", body: sweep.spec, signal });
      location.hash = `sweeps/${id}`;
    } catch (error) {
      if (!signal.aborted) button.after(errorMessage(error));
      button.disabled = false;
    }
  });
  const note = "in a new sweep with the same spec, which reuses the completed cells";
  return h("p", {}, button, h("small", {}, ` ${note}`));
}

/** Return what a cell does to the unsteered model; empty for the baseline. */
function steeredText({ intervention, instruction, method }) {
  if (instruction) return `${instruction.language} ${method}`;
  if (!intervention) return method ?? "";
  const { languages, op, factor, patch, statistic, vector, selection, neuron, tokens, when, part } = intervention;
  const codes = (Array.isArray(languages) ? languages : Object.keys(languages)).join(" + ");
  const value = [patch, statistic, vector].filter(Boolean).map((name) => ` ${name}`);
  const single = neuron ? `, neuron ${neuron[1]} of layer ${neuron[0]}` : "";
  const edited = [
    tokens && `tokens ${Object.entries(tokens).map(([name, each]) => `${name}=${each}`).join(", ")}`,
    when && "when drift",
    part && `part ${part}`,
  ];
  const chosen = edited.filter(Boolean).map((text) => `, ${text}`).join("");
  return `${codes} ${op}${value.join("")} × ${factor}${selection ? `, ${selection}` : ""}${single}${chosen}`;
}
