/** The controls of one choice of a field that says which tokens are edited: `tokens`, `when` or `part`. A spec can have several. */

import { field, h, select } from "../dom.js";
import { driftSettings, driftWhen, tokensOf, whichText } from "./edited_tokens.js";

const DRIFT_LEGEND = "How the language of the text is followed";
const DRIFT_TITLES = {
  min_characters: "First look after characters",
  window: "Last characters looked at",
  every: "Next look after characters",
  switch_on: "Looks that switch on",
  switch_off: "Looks that switch off",
  confidence: "Least confidence",
};
const MAKERS = { tokens: tokensChoice, when: whenChoice, part: partChoice };

/** The names of the fields, in the order of their controls. */
export const FIELDS = Object.keys(MAKERS);

/**
 * Return the controls of one choice of a field; `number` counts the choices of the field from 1, and is a part of the names from 2 on.
 *
 * A choice has its `controls`, the labelled `fields` that have them, `settings` to show below these or null, `value()`, which is undefined
 * for the default, and `show(value)`. `refresh()` follows the controls. `controlOf(path)` returns the control that an error about a part of the
 * value concerns. `words` are the values of a field that has a fixed set of them, the default among them as null.
 */
export const choiceOf = (name, number, choices) => ({ refresh() {}, settings: null, words: [], ...MAKERS[name](choices, number) });

const named = (name, number) => (number === 1 ? name : `${name}-${number}`);
const titled = (title, number) => (number === 1 ? title : `or ${title.toLowerCase()}`);

/** Return an input for a text. Numbers are texts, so that the server and not the browser says what is wrong with one. */
const text = (name, props = {}) => h("input", { name, size: 8, autocomplete: "off", spellcheck: false, ...props });

function tokensChoice(_choices, number) {
  const which = text(named("which", number), { value: "all" });
  const decay = text(named("decay", number), { inputMode: "decimal", placeholder: "none" });
  which.setAttribute("aria-describedby", "finer-hint");
  return {
    controls: [which, decay],
    fields: [field(titled("of these", number), which, "tokens"), field("Decay", decay, "tokens.decay")],
    value: () => tokensOf(which.value, decay.value),
    show(tokens) {
      which.value = whichText(tokens);
      decay.value = tokens?.decay ?? "";
    },
    controlOf: ([key]) => (key === "decay" ? decay : which),
  };
}

function whenChoice({ when, drift }, number) {
  const control = select(named("when", number), [["", "always"], ...when]);
  const setting = ([name, initial]) => {
    const props = { inputMode: "decimal", placeholder: String(initial) };
    return [name, text(named(`drift-${name}`, number), props)];
  };
  const inputs = Object.fromEntries(drift.map(setting));
  const fields = Object.entries(inputs).map(([name, input]) => field(DRIFT_TITLES[name] ?? name, input, name));
  const settings = h("fieldset", { class: "drift", hidden: true }, h("legend", {}, DRIFT_LEGEND), h("div", { class: "row" }, ...fields));
  return {
    controls: [control, ...Object.values(inputs)],
    fields: [field(titled("When", number), control, "when")],
    settings,
    words: [null, ...when.map(([word]) => word)],
    value() {
      const texts = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value]));
      return control.value ? driftWhen(texts) : undefined;
    },
    show(value) {
      const drifting = driftSettings(value);
      control.value = drifting ? "drift" : "";
      for (const [name, input] of Object.entries(inputs)) input.value = drifting?.[name] ?? "";
    },
    refresh: () => (settings.hidden = !control.value),
    controlOf: ([, setting]) => inputs[setting] ?? control,
  };
}

function partChoice({ part }, number) {
  const control = select(named("part", number), [["", "thinking and answer"], ...part]);
  return {
    controls: [control],
    fields: [field(titled("Part", number), control, "part")],
    words: [null, ...part.map(([word]) => word)],
    value: () => control.value || undefined,
    show: (value) => (control.value = value ?? ""),
    controlOf: () => control,
  };
}
