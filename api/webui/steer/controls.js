/** The form of the view that steers, and the intervention that it describes. Its values are kept in the address. */

import { readAddress, setParams } from "../address.js";
import { field, h, select } from "../dom.js";

const MAX_FACTOR = 10;
/** Controls whose values are kept in the address, with their defaults. */
const KEPT = {
  model: null,
  neurons: null,
  op: null,
  factor: "3",
  magnitude: ":",
  layers: "all",
  scope: "all",
  which: "all",
  decay: "",
  tokens: "40",
  temperature: "0",
  control: "",
};

/** Return the form as `element`, with its controls by name; `prompts` are the element of those (`prompts.js`). */
export function steerControls(models, prompts, { op, patch, statistic, vector, selection, scope }) {
  const of = (name, pairs) => pairs.map(([value, label]) => [`${name}:${value}`, label]);
  const number = (name, props) => h("input", { name, type: "number", required: true, value: KEPT[name], ...props });
  const magnitudes = [[":", "1"], ...of("patch", patch), ...of("statistic", statistic), ...of("vector", vector)];
  const modelNames = models.map(({ id }) => [id, id]);
  const inputs = {
    model: select("model", modelNames),
    neurons: select("neurons", []),
    op: select("op", op),
    factor: number("factor", { step: "any" }),
    slider: h("input", { name: "slider", type: "range", min: 0, max: MAX_FACTOR, step: 0.1, value: KEPT.factor }),
    magnitude: select("magnitude", magnitudes),
    layers: h("input", { name: "layers", value: KEPT.layers, size: 8, required: true }),
    scope: select("scope", scope),
    which: h("input", { name: "which", value: KEPT.which, size: 8, title: "all, a slice such as :8 or -4:, or positions: 0, -1" }),
    decay: number("decay", { min: 0, max: 1, step: "any", required: false, placeholder: "none" }),
    tokens: number("tokens", { min: 1 }),
    temperature: number("temperature", { min: 0, max: 2, step: 0.1 }),
    control: select("control", [["", "none"], ...selection]),
    stop: h("button", { type: "button", disabled: true }, "Stop"),
  };
  inputs.slider.setAttribute("aria-label", "Factor");
  inputs.slider.addEventListener("input", () => (inputs.factor.value = inputs.slider.value));
  inputs.factor.addEventListener("input", () => (inputs.slider.value = inputs.factor.value));
  const element = h(
    "form",
    { class: "steer" },
    h("div", { class: "row where" }, field("Model", inputs.model), field("Neurons", inputs.neurons)),
    prompts,
    h(
      "div",
      { class: "row" },
      field("Activations", inputs.op),
      field("Factor", inputs.factor),
      inputs.slider,
      field("times", inputs.magnitude),
      field("Layers", inputs.layers),
      field("Edited tokens", inputs.scope),
      field("of these", inputs.which),
      field("Decay", inputs.decay),
      field("Tokens", inputs.tokens),
      field("Temperature", inputs.temperature),
      field("Control", inputs.control),
    ),
    h("div", { class: "row buttons" }, h("button", { type: "submit", class: "main" }, "Steer"), inputs.stop),
  );
  return { ...inputs, element };
}

/** Give the controls the values that the address has. */
export function restore(form) {
  const { params } = readAddress();
  for (const name of Object.keys(KEPT)) if (params.has(name)) setValue(form[name], params.get(name));
  form.slider.value = form.factor.value;
}

/** Write the values that are not the defaults, and the selected languages, to the address. */
export function keep(form, languages) {
  const values = Object.entries(KEPT).map(([name, initial]) => [name, form[name].value === initial ? "" : form[name].value]);
  setParams({ ...Object.fromEntries(values), languages: languages.join(",") });
}

/** Set the value of a control; a select keeps its own if it does not have it. */
export function setValue(control, value) {
  if (control.tagName !== "SELECT" || [...control.options].some((option) => option.value === value)) control.value = value;
}

/** Return the intervention that the form describes, for one language; `other` is that of the control of this name. */
export function interventionOf(form, language, selection, other) {
  const { op, factor, magnitude, layers, scope, which, decay } = form;
  const where = {
    ...layersOf(layers.value),
    ...(scope.value === "all" ? {} : { scope: scope.value }),
    ...tokensOf(which.value.trim(), decay.value),
  };
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

/** Give the controls the values of an intervention. */
export function showIntervention(form, { op, factor, patch, statistic, vector, layers, scope, tokens }) {
  form.op.value = op;
  form.factor.value = form.slider.value = factor;
  const [name, value] = [["patch", patch], ["statistic", statistic], ["vector", vector]].find(([, each]) => each) ?? ["", ""];
  form.magnitude.value = `${name}:${value}`;
  form.layers.value = layers?.length ? layers.join(", ") : "all";
  form.scope.value = scope ?? "all";
  form.which.value = whichText(tokens ?? {});
  form.decay.value = tokens?.decay ?? "";
  form.op.dispatchEvent(new Event("change"));
}

/** Return the layers of an intervention from their text, such as "0, 3"; nothing for all of them. */
function layersOf(text) {
  const numbers = text.split(/[\s,]+/).filter(Boolean);
  return !numbers.length || numbers[0] === "all" ? {} : { layers: numbers.map(Number) };
}

/** Return which tokens are edited, from the text of a slice such as "2:8" or of positions, and how the edit decays. */
function tokensOf(text, decay) {
  const numberOf = (part) => (Number.isNaN(Number(part)) ? part : Number(part)); // the server names what is no number
  const tokens = {};
  if (/^[^:]*:[^:]*$/.test(text)) {
    const [start, end] = text.split(":").map((part) => part.trim());
    if (start) tokens.start = numberOf(start);
    if (end) tokens.end = numberOf(end);
  } else if (text && text !== "all") tokens.positions = text.split(/[\s,]+/).filter(Boolean).map(numberOf);
  if (decay) tokens.decay = Number(decay);
  return Object.keys(tokens).length ? { tokens } : {};
}

/** Return the text of a slice or of positions. */
function whichText({ start, end, positions }) {
  if (positions) return positions.join(", ");
  return start === undefined && end === undefined ? "all" : `${start ?? ""}:${end ?? ""}`;
}
