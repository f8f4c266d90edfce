/** The form that shows a spec and changes it. Keys of a spec that the form does not show stay as they are. */

import { field, h, select } from "../dom.js";
import { finerControl } from "../finer_control/group.js";
import { assign } from "./controls.js";
import { interventionFields } from "./intervention_fields.js";
import { neuronFields } from "./neuron_fields.js";
import { completedSets, defaultCorpus, listSets } from "./offers.js";
import { taskFields } from "./task_fields.js";

/** Where the end of a message says that an error is in the text. */
export const POSITION = / \(line (\d+), column (\d+)\)$/;

/**
 * Return the form: its `element`, `show(spec)`, which shows another spec and writes every later change into it, and
 * `showError(error)`, which shows the error of the server at the control of its field, or none. `onchange` is called after each
 * change.
 */
export function specForm({ offers, signal, onchange }) {
  const element = h("fieldset", { class: "spec-form", "aria-label": "Spec" });
  let spec;
  let sets = [];
  let setsOf = null;
  // one element, so that it stays open when the form is drawn anew
  const finer = finerControl(offers.choices.finer, {
    several: true,
    onchange: (name) => edit((changed) => assign((changed.interventions ??= {}), name, finer.value()[name])),
  });

  /** Change the spec; with `again` the form is drawn anew, because other fields depend on the changed one. */
  function edit(change, { again = false } = {}) {
    change(spec);
    onchange(spec);
    if (again) draw();
  }

  function draw() {
    const { name, value, type } = element.contains(document.activeElement) ? document.activeElement : {};
    const context = { spec, offers, sets, finer, edit };
    element.replaceChildren(general(context), neuronFields(context), interventionFields(context), taskFields(context));
    if (name) {
      const controls = [...element.querySelectorAll(`[name="${CSS.escape(name)}"]`)];
      (controls.find((control) => type !== "checkbox" || control.value === value) ?? element).focus();
    }
    loadSets();
  }

  async function loadSets() {
    const model = spec.model;
    if (setsOf === model) return;
    setsOf = model;
    sets = completedSets(await listSets(model, signal).catch(() => [])); // an unknown model; the plan says so
    if (!signal.aborted && setsOf === model) draw();
  }

  function show(shown) {
    spec = shown;
    draw();
  }

  function showError(error) {
    finer.clearError();
    const [, path] = /^interventions\.(.+)$/.exec(error?.param ?? "") ?? [];
    if (path) finer.showError(path, error.message.replace(/^interventions\./, "").replace(POSITION, ""));
  }
  return { element, show, showError };
}

/** Change the model of a spec. Neurons that are found on the default corpus of the model are found on that of the new one. */
function changeModel(spec, model, { corpora }) {
  const before = defaultCorpus(spec.model, corpora);
  const after = defaultCorpus(model, corpora);
  spec.model = model;
  if (!spec.neurons?.method || before.id === after.id || spec.neurons.corpus !== before.id) return;
  Object.assign(spec.neurons, { corpus: after.id, languages: after.languages });
  if (Array.isArray(spec.interventions?.languages)) {
    const kept = spec.interventions.languages.filter((code) => after.languages.includes(code));
    assign(spec.interventions, "languages", kept); // without any, all languages of the corpus are steered to
  }
}

function general({ spec, offers, edit }) {
  const models = [...new Set([...offers.models.map(({ id }) => id), spec.model].filter(Boolean))];
  const name = h("input", {
    name: "name",
    value: spec.name ?? "",
    onchange: ({ target }) => edit((changed) => Object.assign(changed, { name: target.value || "sweep" })),
  });
  const model = select(
    "model",
    models.map((id) => [id, id]),
    {
      value: spec.model ?? "",
      onchange: ({ target }) => edit((changed) => changeModel(changed, target.value, offers), { again: true }),
    },
  );
  const method = typeof spec.search === "object" && spec.search !== null ? spec.search.method : (spec.search ?? "grid");
  const search = select("search", [["grid", "all factors"], ["halving", "successive halving"]], {
    value: method,
    onchange: ({ target }) =>
      edit((changed) => {
        if (target.value === "grid") delete changed.search;
        else changed.search = target.value;
      }),
  });
  return h("div", { class: "row" }, field("Name", name, "name"), field("Model", model, "model"), field("Search", search, "search"));
}
