/** The samples of a sweep: what was asked, the steered answer beside the unsteered one, filtered by the user. */

import { readAddress, setParams } from "../address.js";
import { errorMessage, field, h, languageName, select } from "../dom.js";
import { distinct, interventionText, methodName, methodText } from "../figures/rows.js";
import { spansText } from "../format.js";
import { json } from "../rest.js";

const PAGE = 20;
const CORRECT = [["", "all"], ["true", "correct"], ["false", "wrong"]];
/** The selects: title, name in the address, and what a choice stands for: query parameters, and text, of a row. */
const FILTERS = [
  ["Task", "task", (row) => ({ task: row.task }), (row) => row.task],
  ["Data language", "data_language", (row) => ({ data_language: row.data_language }), (row) => languageName(row.data_language)],
  ["Target", "target", (row) => ({ target_language: row.target_language }), (row) => languageName(row.target_language)],
  ["Method", "whose", ofMethod, methodName],
  ["Intervention", "intervention", ofIntervention, (row) => interventionText(row)],
];

/** The texts of an intervention that the server filters by. */
const EDIT = ["op", "patch", "statistic", "weights", "layers", "tokens", "when", "part", "mode"];
/** The numbers of an intervention that the server filters by. */
const NUMBERS = ["factor", "neuron_layer", "neuron_index"];

/** The server matches null by this word. */
const orNone = (value) => value ?? "none";

function ofMethod(row) {
  return { method: orNone(row.method), selection: orNone(row.selection) };
}

function ofIntervention(row) {
  const texts = Object.fromEntries(EDIT.map((name) => [name, orNone(row[name])]));
  const numbers = NUMBERS.filter((name) => (row[name] ?? null) !== null).map((name) => [name, row[name]]);
  return { ...texts, ...Object.fromEntries(numbers) };
}

/** Return the browser of the samples of an ended sweep; `rows` are those of its summary, `path` is its address. */
export function samplesBrowser(path, rows, signal) {
  const steered = rows.filter(({ method }) => (method ?? null) !== null);
  if (!steered.length) return [];
  const list = h("ol", { class: "samples" });
  const message = h("div");
  const more = h("button", { type: "button", name: "more", hidden: true, onclick: () => load() }, "More");
  const { params } = readAddress();
  const filters = FILTERS.map(([title, name, queryOf, textOf]) => {
    const byText = new Map(steered.map((row) => [textOf(row), queryOf(row)]));
    const control = select(name, [["", "all"], ...distinct(steered, textOf).map((text) => [text, text])]);
    control.value = byText.has(params.get(name)) ? params.get(name) : "";
    return { title, name, control, query: () => byText.get(control.value) ?? {} };
  });
  const correct = select("correct", CORRECT, { value: params.get("correct") ?? "" });
  let after = null;
  let latest = 0;

  function query() {
    const given = Object.assign({}, ...filters.map((filter) => filter.query()), { limit: PAGE });
    if (correct.value) given.correct = correct.value;
    if (after !== null) given.after = after;
    return new URLSearchParams(given);
  }

  async function load() {
    const mine = ++latest;
    more.disabled = true;
    try {
      const page = await json(`${path}/samples?${query()}`, { signal });
      if (mine !== latest) return; // the filters have changed since
      if (after === null) list.replaceChildren();
      list.append(...page.data.map(sampleElement));
      after = page.last_id;
      more.hidden = !page.has_more;
      message.replaceChildren(list.childElementCount ? "" : h("p", {}, "No sample matches."));
    } catch (error) {
      if (!signal.aborted) message.replaceChildren(errorMessage(error));
    }
    more.disabled = false;
  }

  function changed() {
    setParams({
      ...Object.fromEntries(filters.map(({ name, control }) => [name, control.value])),
      correct: correct.value,
    });
    after = null;
    load();
  }

  load();
  const fields = filters.map(({ title, control }) => field(title, control));
  return [
    h("h3", {}, "Samples"),
    h("div", { class: "row", onchange: changed }, ...fields, field("Answer", correct)),
    message,
    list,
    more,
  ];
}

/** Return a sample: what was asked and expected, and both answers side by side. */
function sampleElement(sample) {
  const { data_language: data, target_language: target } = sample;
  const about = [
    sample.task,
    `${data} → ${target}`,
    methodText(sample),
    interventionText(sample),
    sample.answer === null ? "" : `answer ${sample.answer + 1}`,
  ];
  const parts = [
    sample.input === null ? null : part("Input", sample.input, data),
    sample.gold === null ? null : part("Expected", sample.gold, ""),
  ];
  return h(
    "li",
    { class: "sample", "data-id": sample.id },
    h("p", { class: "about" }, ...about.filter(Boolean).map((text) => h("span", {}, text)), h("code", {}, sample.doc_id ?? "")),
    ...parts,
    h(
      "div",
      { class: "pair" },
      answer("Unsteered", sample.baseline, data, "baseline"),
      answer("Steered", sample, target, "steered"),
    ),
  );
}

/** Return a text with its language and direction; `dir=auto` follows its first strong character. */
function part(title, text, language) {
  return h("div", { class: "part" }, h("span", {}, title), h("p", { class: "text", lang: language ?? "", dir: "auto" }, text));
}

/** Return an answer with its verdict and score; `sample` is null for an item without an unsteered sample. */
function answer(title, sample, language, kind) {
  if (!sample) return h("div", { class: kind }, h("span", {}, title), h("p", {}, "not asked"));
  const { correct, score, error } = sample;
  const verdict = correct === null ? null : h("span", { class: correct ? "right" : "wrong" }, correct ? "✓ correct" : "✗ wrong");
  const number = score === null ? null : h("span", { class: "note" }, `score ${score.toFixed(3)}`);
  const spans = sample.steered_spans ? h("span", { class: "note" }, spansText(sample.steered_spans)) : null;
  const text = error ?? (sample.completion || sample.prediction || "–");
  return h(
    "div",
    { class: kind },
    h("span", {}, title),
    " ",
    verdict,
    " ",
    number,
    " ",
    spans,
    h("p", { class: error ? "text error" : "text", lang: language ?? "", dir: "auto" }, text),
  );
}
