/** The view that writes the spec of a new sweep, by a form and as YAML, shows its plan, and submits it. */

import { errorMessage, field, h } from "../dom.js";
import { json, RestError } from "../rest.js";
import { firstSpec, loadOffers, withoutDefaults } from "./offers.js";
import { planElements } from "./plan.js";
import { POSITION, specForm } from "./spec_form.js";
import { toYaml } from "./yaml.js";

const TYPING_PAUSE_MS = 400;
const RETRY_MS = 3000;

/** What was written and not submitted, and the parameter `from` of its form; it is shown again when the user comes back. */
let draft = { from: null, text: null };

/** Show the view until `signal` is aborted; the parameter `from` is the id of a sweep whose spec the form begins with. */
export async function newSweepView(main, { signal, params }) {
  const from = params.get("from");
  let offers;
  let spec;
  try {
    offers = await loadOffers(signal);
    spec = from ? withoutDefaults((await json(`v1/sweeps/${encodeURIComponent(from)}`, { signal })).spec) : firstSpec(offers);
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(errorMessage(error));
    return;
  }
  const text = h("textarea", { name: "spec", rows: 22, spellcheck: false, wrap: "off" });
  const problem = h("div", { "aria-live": "polite" });
  const plan = h("div", { class: "plan-box", "aria-live": "polite" });
  let isTyped = false; // whether the text, not the form, was changed last
  let typing = null;
  let sent = { text: null, key: null }; // what was submitted last

  const form = specForm({
    offers,
    signal,
    onchange: (changed) => {
      isTyped = false;
      text.value = toYaml(changed);
      draft = { from, text: text.value };
      ask();
    },
  });
  const ask = planner(() => text.value, signal, {
    onPlan: (answer) => {
      problem.replaceChildren();
      form.element.inert = form.element.disabled = false;
      form.showError(null);
      plan.replaceChildren(...planElements(answer));
      if (isTyped) form.show(answer.spec);
      isTyped = false;
    },
    onError: (error) => {
      form.element.disabled = isTyped;
      form.element.inert = false;
      form.showError(isTyped ? null : error);
      problem.replaceChildren(errorMessage(error), position(error, text), isTyped ? followsNote() : "");
      plan.replaceChildren(h("p", { class: "note" }, "There is a plan once the spec has no error."));
    },
  });
  text.addEventListener("input", () => {
    isTyped = true;
    draft = { from, text: text.value };
    form.element.inert = true; // until the form shows the text
    clearTimeout(typing);
    typing = setTimeout(ask, TYPING_PAUSE_MS);
  });
  const submit = h("button", { type: "submit", class: "main", name: "submit" }, "Submit");
  const element = h(
    "form",
    { class: "new" },
    form.element,
    h(
      "section",
      { class: "spec-text" },
      field("Spec (YAML or JSON)", text),
      problem,
      h("h3", {}, "Plan"),
      plan,
      submit,
    ),
  );
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    if (sent.text !== text.value) sent = { text: text.value, key: randomKey() };
    try {
      const headers = { "Idempotency-Key": sent.key }; // so that a second try submits no second sweep
      const sweep = await json("v1/sweeps", { method: "POST", yaml: sent.text, headers, signal });
      draft = { from: null, text: null };
      location.hash = `sweeps/${sweep.id}`;
    } catch (error) {
      if (!signal.aborted) problem.replaceChildren(errorMessage(error), position(error, text));
      submit.disabled = false;
    }
  });
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.target.tagName !== "INPUT") return;
    event.preventDefault(); // which would submit the sweep
    event.target.dispatchEvent(new Event("change", { bubbles: true }));
  });
  const isDraft = draft.text !== null && draft.from === from;
  function beginAnew() {
    draft = { from: null, text: null };
    newSweepView(main, { signal, params });
  }
  const again = h("p", { class: "note" }, "This is what you wrote before. ", h("button", { type: "button", name: "anew", onclick: beginAnew }, "Begin anew"));
  main.replaceChildren(h("h2", {}, "New sweep"), isDraft ? again : "", element);
  form.show(spec);
  text.value = isDraft ? draft.text : toYaml(spec);
  form.element.inert = isTyped = isDraft; // until the form shows the text
  ask();
}

/** Return a random text; `crypto.randomUUID` is missing where the page is not served by HTTPS. */
const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** Return the note below an error of a text that was typed. */
const followsNote = () => h("p", { class: "note" }, "The form follows the text again once the text has no error.");

/** Return a function that plans the text; it never has two requests in flight, and plans the last text in any case. */
function planner(textOf, signal, { onPlan, onError }) {
  let isRunning = false;
  let isStale = false;
  return async function ask() {
    isStale = true;
    if (isRunning) return;
    isRunning = true;
    while (isStale && !signal.aborted) {
      isStale = false;
      const planned = textOf();
      const isLatest = () => !isStale && !signal.aborted && planned === textOf();
      try {
        const answer = await json("v1/sweeps/plan", { method: "POST", yaml: planned, signal });
        if (isLatest()) onPlan(answer);
      } catch (error) {
        if (isLatest()) onError(error);
        if (!(error instanceof RestError) && !signal.aborted) setTimeout(ask, RETRY_MS); // the server cannot be reached
      }
    }
    isRunning = false;
  };
}

/** Return a button that selects the line that an error names, or nothing. */
function position(error, text) {
  const [, line, column] = POSITION.exec(error.message) ?? [];
  if (!line) return "";
  const select = () => {
    const lines = text.value.split("\n");
    const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    text.focus();
    text.setSelectionRange(start + Number(column) - 1, start + lines[line - 1].length);
  };
  return h("button", { type: "button", name: "show-line", onclick: select }, `Show line ${line}`);
}
