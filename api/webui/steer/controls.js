/** The form of the view that steers, and the intervention that it describes. Its values are kept in the address. */

import { readAddress } from "../address.js";
import { NO_MAGNITUDE } from "../choices.js";
import { field, h, select } from "../dom.js";
import { numberOf } from "../finer_control/edited_tokens.js";
import { finerControl } from "../finer_control/group.js";

const MAX_FACTOR = 10;
/** What the address has in place of the languages if none is selected. */
export const NO_LANGUAGE = "none";
/** Fields of an intervention that the form has no control for; `selection` is chosen for all answers by the control. */
const NOT_SHOWN = ["selection", "non_target", "source", "neuron"];
/** Controls that describe the intervention and its neurons, as a preset does, besides those of the finer control. */
const DESCRIBING = ["op", "factor", "slider", "magnitude", "layers", "language", "neurons"];
/** Controls whose values are kept in the address, with their defaults; those of the finer control have their own. */
const KEPT = {
  model: null,
  neurons: null,
  op: null,
  factor: "3",
  magnitude: ":",
  layers: "all",
  tokens: "40",
  temperature: "0",
  control: "",
};

/** Return the form as `element`, with its controls by name; `prompts` are the element of those (`prompts.js`). */
export function steerControls(models, prompts, { op, patch, statistic, vector, selection, finer: finerChoices }) {
  const of = (name, pairs) => pairs.map(([value, label]) => [`${name}:${value}`, label]);
  const number = (name, props) => h("input", { name, type: "number", required: true, value: KEPT[name], ...props });
  const magnitudes = [NO_MAGNITUDE, ...of("patch", patch), ...of("statistic", statistic), ...of("vector", vector)];
  const modelNames = models.map(({ id }) => [id, id]);
  const inputs = {
    model: select("model", modelNames),
    neurons: select("neurons", []),
    op: select("op", op),
    factor: number("factor", { step: "any" }),
    slider: h("input", { name: "slider", type: "range", min: 0, max: MAX_FACTOR, step: 0.1, value: KEPT.factor }),
    magnitude: select("magnitude", magnitudes),
    layers: h("input", { name: "layers", value: KEPT.layers, size: 8, required: true }),
    tokens: number("tokens", { min: 1 }),
    temperature: number("temperature", { min: 0, max: 2, step: "any" }),
    control: select("control", [["", "none"], ...selection]),
    stop: h("button", { type: "button", name: "stop", disabled: true }, "Stop"),
    state: h("span", { class: "note", role: "status" }),
  };
  const finer = finerControl(finerChoices);
  inputs.slider.setAttribute("aria-label", "Factor");
  inputs.slider.addEventListener("input", () => (inputs.factor.value = inputs.slider.value));
  inputs.factor.addEventListener("input", () => (inputs.slider.value = inputs.factor.value));
  const element = h(
    "form",
    { class: "steer" },
    h("div", { class: "row where" }, field("Model", inputs.model), field("Neurons", inputs.neurons, "neurons")),
    prompts,
    h(
      "div",
      { class: "row what" },
      field("Activations", inputs.op, "op"),
      h("div", { class: "row" }, field("Factor", inputs.factor, "factor"), inputs.slider),
      field("times", inputs.magnitude, "patch, statistic, vector"),
      field("Layers", inputs.layers, "layers"),
      field("Control", inputs.control, "selection"),
    ),
    finer.element,
    h(
      "div",
      { class: "row buttons" },
      field("Tokens, at most", inputs.tokens, "max_tokens"),
      field("Temperature", inputs.temperature, "temperature"),
      h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Steer"), inputs.stop),
      inputs.state,
    ),
  );
  const describes = new Set([...DESCRIBING, ...Object.keys(finer.controls)]);
  return { ...inputs, ...finer.controls, finer, kept: { ...KEPT, ...finer.defaults }, describes, element };
}

/** Give the controls the values that the address has; return the parameters whose values they cannot have. */
export function restore(form) {
  const { params } = readAddress();
  const given = Object.keys(form.kept).filter((name) => params.has(name) && name !== "neurons"); // these are not loaded yet
  if (params.has("magnitude")) offerMagnitude(form, params.get("magnitude"));
  const unknown = given.filter((name) => !setValue(form[name], params.get(name)));
  form.slider.value = form.factor.value;
  form.finer.refresh();
  form.finer.open();
  return unknown;
}

/** Return the parameters of the address that `restore` reads, and the selected languages; defaults are empty. */
export function paramsOf(form, languages) {
  const values = Object.entries(form.kept).map(([name, initial]) => [name, form[name].value === initial ? "" : form[name].value]);
  return { ...Object.fromEntries(values), languages: languages.join(",") || NO_LANGUAGE };
}

/** Set the value of a control, and return whether it can have it; a select without it keeps its own. */
export function setValue(control, value) {
  if (control.tagName === "SELECT" && ![...control.options].some((option) => option.value === value)) return false;
  control.value = value;
  return true;
}

/** Offer a magnitude that the list does not have, such as the statistic p80. */
function offerMagnitude({ magnitude }, value) {
  const [, name] = /^(?:patch|statistic|vector):(.+)$/.exec(value) ?? [];
  if (name && ![...magnitude.options].some((option) => option.value === value)) magnitude.append(h("option", { value }, name));
}

/** Return the intervention that the form describes, for one language; `other` is that of the control of this name. */
export function interventionOf(form, language, selection, other) {
  const { op, factor, magnitude, layers, finer } = form;
  const where = { ...layersOf(layers.value), ...finer.value() };
  if (selection === "zero") return { languages: [language], op: "set", factor: 0, selection, ...where };
  const [name, value] = op.value === "scale" ? ["", ""] : magnitude.value.split(":");
  return {
    languages: [language],
    op: op.value,
    factor: Number(factor.value),
    ...(name ? { [name]: value } : {}),
    ...where,
    ...(selection ? { selection } : {}),
    ...(selection === "other" ? { other } : {}),
  };
}

/** Give the controls the values of an intervention; return its fields that the form has no control for. */
export function showIntervention(form, intervention) {
  const { op, factor, patch, statistic, vector, layers } = intervention;
  form.op.value = op;
  form.factor.value = form.slider.value = factor;
  const [name, value] = [["patch", patch], ["statistic", statistic], ["vector", vector]].find(([, each]) => each) ?? ["", ""];
  offerMagnitude(form, `${name}:${value}`);
  form.magnitude.value = `${name}:${value}`;
  form.layers.value = Array.isArray(layers) ? layers.join(", ") : "all";
  form.finer.show(intervention);
  form.op.dispatchEvent(new Event("change"));
  const hasWeights = !Array.isArray(intervention.languages);
  return [...(hasWeights ? ["weights"] : []), ...NOT_SHOWN.filter((field) => (intervention[field] ?? null) !== null)];
}

/** Return the layers of an intervention from their text, such as "0, 3"; nothing for all of them. */
function layersOf(text) {
  const numbers = text.split(/[\s,]+/).filter(Boolean);
  return ["", "all"].includes(numbers.join()) ? {} : { layers: numbers.map(numberOf) };
}
