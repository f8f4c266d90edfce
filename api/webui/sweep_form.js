/** The form for a new sweep: a spec as JSON, and menus that change it. */

import { sweepChoices } from "./choices.js";
import { errorMessage, field, h, select } from "./dom.js";
import { json } from "./rest.js";

const EXAMPLE = {
  name: "first-look",
  model: "atlas",
  neurons: { method: "lape", corpus: "atlas", languages: ["en", "fr", "id", "ja", "ru", "tr"], top_rate: 0.05 },
  interventions: { languages: ["fr", "ja", "tr"], op: "set", factors: [0, 0.5, 3], controls: ["random"] },
  tasks: [{ name: "lss", languages: ["en", "id", "ru"], limit: 40 }],
};
/** Parameters that methods do not share; another method drops them. */
const METHOD_PARAMS = ["top_rate", "filter_rate", "activation_bar", "k", "seed"];
const VECTOR_FACTORS = [2, 4, 8];

/** Return the form, closed; `signal` aborts its requests. */
export function newSweep(signal) {
  const spec = h("textarea", { rows: 16, spellcheck: false, value: JSON.stringify(EXAMPLE, null, 2) });
  const message = h("div");
  const menus = h("div", { class: "row" });
  const form = h("form", {}, menus, spec, message, h("button", { type: "submit", class: "main" }, "Submit"));
  const details = h("details", { class: "new" }, h("summary", {}, "New sweep"), form);
  details.addEventListener("toggle", async () => {
    if (!details.open || menus.childElementCount) return;
    try {
      menus.replaceChildren(...menusOf(await sweepChoices(signal), change));
    } catch (error) {
      if (!signal.aborted) message.replaceChildren(errorMessage(error));
    }
  });

  /** Change the spec in the text; it stays as it is if it is not JSON. */
  function change(edit) {
    try {
      const content = JSON.parse(spec.value);
      edit(content);
      spec.value = JSON.stringify(content, null, 2);
      message.replaceChildren();
    } catch (error) {
      message.replaceChildren(errorMessage(error));
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const sweep = await json("v1/sweeps", { method: "POST", body: JSON.parse(spec.value) });
      location.hash = `sweeps/${sweep.id}`;
    } catch (error) {
      message.replaceChildren(errorMessage(error));
    }
  });
  return details;
}

function menusOf({ method, op, patch, statistic, controls, prompts, vectors }, change) {
  const of = (name, pairs) => pairs.map(([value, label]) => [`${name}:${value}`, label]);
  const methods = select("spec-method", method, {
    value: EXAMPLE.neurons.method,
    onchange: ({ target }) =>
      change(({ neurons }) => {
        for (const name of METHOD_PARAMS) delete neurons[name];
        neurons.method = target.value;
      }),
  });
  const ops = select("spec-op", op, {
    value: EXAMPLE.interventions.op,
    onchange: ({ target }) => change(({ interventions }) => Object.assign(interventions, { op: target.value })),
  });
  const magnitudes = [[":", "the factors"], ...of("patch", patch), ...of("statistic", statistic)];
  const magnitude = select("spec-magnitude", magnitudes, {
    onchange: ({ target }) =>
      change(({ interventions }) => {
        const [name, value] = target.value.split(":");
        delete interventions.patch;
        delete interventions.statistic;
        if (name) interventions[name] = [value];
      }),
  });
  return [
    field("Neurons by", methods),
    field("Activations", ops),
    field("times", magnitude),
    boxes("Controls", controls, EXAMPLE.interventions.controls, (value, checked) =>
      change(({ interventions }) => toggle(interventions, "controls", value, checked)),
    ),
    boxes("Baselines", [...prompts, ...vectors], [], (value, checked) =>
      change(({ interventions }) => {
        const isVector = vectors.some(([vector]) => vector === value);
        const baseline = isVector ? { method: value, factors: VECTOR_FACTORS } : value;
        toggle(interventions, "baselines", baseline, checked);
      }),
    ),
  ];
}

/** Return a group of check boxes; `onchange` is called with the value of one and whether it is checked. */
function boxes(title, choices, checked, onchange) {
  const box = ([value, label]) =>
    h(
      "label",
      {},
      h("input", {
        type: "checkbox",
        name: `spec-${title.toLowerCase()}`,
        value,
        checked: checked.includes(value),
        onchange: ({ target }) => onchange(value, target.checked),
      }),
      label,
    );
  return h("fieldset", { class: "boxes" }, h("legend", {}, title), ...choices.map(box));
}

/** Add an item to the list `object[name]` or remove it; an item with a method is the one with the same method. */
function toggle(object, name, item, present) {
  const key = (each) => each.method ?? each;
  const others = (object[name] ?? []).filter((each) => key(each) !== key(item));
  const items = present ? [...others, item] : others;
  if (items.length) object[name] = items;
  else delete object[name];
}
