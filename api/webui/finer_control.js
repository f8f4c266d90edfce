/** The group of controls that say which tokens an intervention edits: its fields `scope`, `tokens`, `when` and `part`. */

import { field, h, select } from "./dom.js";
import { driftSettings, driftWhen, tokensOf, tokensText, whichText } from "./edited_tokens.js";

const HINT =
  "Of these: all, a slice as in Python such as :8 or -4:, or positions such as 0, -1; negative ones count from the end of the prompt. " +
  "Decay: what the strength is multiplied by at each further token, between 0 and 1. " +
  "With When or Part the text of an answer decides which of its tokens are edited, so leave Of these and Decay as they are.";
const DRIFT_LEGEND = "How the language of the text is followed";
const DRIFT_TITLES = {
  min_characters: "First look after characters",
  window: "Last characters looked at",
  every: "Next look after characters",
  switch_on: "Looks that switch on",
  switch_off: "Looks that switch off",
  confidence: "Least confidence",
};

/** Fields of which a spec can have several choices. */
const LISTABLE = ["tokens", "when", "part"];

/**
 * Return the group: its `element`, its `controls` by name with their `defaults`, `value()` and `show(value)` of the four fields,
 * `showError(path, message)` and `clearError()`. After its controls were set, `refresh()` says what is set, and `open()` opens it if
 * anything is.
 *
 * `choices` are pairs of a value and its label for `scope`, `when` and `part`, and of a name and its default for `drift`.
 * `onchange` is called with the name of the field that the user has changed. `value` leaves out what has its default. A spec can
 * have lists of `tokens`, `when` and `part`: one with several choices is shown as such and stays as it is.
 */
export function finerControl(choices, onchange = () => {}) {
  const { controls, settings } = inputs(choices);
  const defaults = Object.fromEntries(Object.entries(controls).map(([name, control]) => [name, control.value]));
  const summary = h("span", { class: "set" });
  const error = fieldError(controls, settings);
  const drift = driftFields(settings);
  const listed = h("p", { class: "note" });
  const element = h(
    "details",
    { class: "finer" },
    h("summary", {}, "Finer control ", summary),
    tokenFields(controls),
    drift,
    error.element,
    listed,
    h("p", { class: "note", id: "finer-hint" }, HINT),
  );
  let lists = {}; // fields that have several choices

  function value() {
    const texts = Object.fromEntries(Object.entries(settings).map(([name, input]) => [name, input.value]));
    const all = {
      scope: controls.scope.value === "all" ? undefined : controls.scope.value,
      tokens: tokensOf(controls.which.value, controls.decay.value),
      when: controls.when.value ? driftWhen(texts) : undefined,
      part: controls.part.value || undefined,
      ...lists,
    };
    return Object.fromEntries(Object.entries(all).filter(([, each]) => each !== undefined));
  }

  function refresh() {
    const set = tokensText(value());
    summary.replaceChildren(set ? `(${set})` : "");
    drift.hidden = !controls.when.value;
    const names = Object.keys(lists);
    listed.replaceChildren(names.length ? `The spec has several choices of ${names.join(" and ")}. Change them in its text.` : "");
    for (const control of [controls.which, controls.decay, controls.when, controls.part]) {
      control.disabled = fieldOf(control.name) in lists;
    }
  }

  function show({ scope, ...fields }) {
    const wasSet = summary.textContent !== "";
    const { tokens, when, part } = Object.fromEntries(LISTABLE.map((name) => [name, onlyChoice(fields[name])]));
    const drifting = driftSettings(when);
    lists = Object.fromEntries(Object.entries(fields).filter(([name, value]) => LISTABLE.includes(name) && isList(value)));
    controls.scope.value = scope ?? "all";
    controls.which.value = "tokens" in lists ? "" : whichText(tokens);
    controls.decay.value = tokens?.decay ?? "";
    controls.when.value = drifting ? "drift" : "";
    controls.part.value = part ?? "";
    for (const name of ["when", "part"]) if (name in lists) controls[name].selectedIndex = -1; // no single one
    for (const [name, input] of Object.entries(settings)) input.value = drifting?.[name] ?? "";
    error.clear();
    refresh();
    if (!wasSet) open(); // a group that the user has closed stays closed
  }

  function open() {
    if (summary.textContent) element.open = true;
  }

  function showError(path, message) {
    if (error.show(path, message)) element.open = true;
  }

  for (const control of Object.values(controls)) {
    control.addEventListener("input", () => {
      error.clear();
      refresh();
    });
    control.addEventListener("change", () => onchange(fieldOf(control.name)));
  }
  return { element, controls, defaults, value, show, refresh, open, showError, clearError: error.clear };
}

/** Return whether a field of a spec has several choices; a list of one is that choice. */
const isList = (value) => Array.isArray(value) && value.length > 1;

/** Return the only choice of a field; null if it has several. */
const onlyChoice = (value) => (isList(value) ? null : Array.isArray(value) ? value[0] : value);

/** Return the controls by name, and those among them that are settings of `drift`, by the names of these. */
function inputs({ scope, when, part, drift }) {
  // Numbers are texts, so that the server and not the browser says what is wrong with one.
  const text = (name, props = {}) => h("input", { name, size: 8, autocomplete: "off", spellcheck: false, ...props });
  const setting = ([name, initial]) => [name, text(`drift-${name}`, { inputMode: "decimal", placeholder: String(initial) })];
  const settings = Object.fromEntries(drift.map(setting));
  const controls = {
    scope: select("scope", scope),
    which: text("which", { value: "all" }),
    decay: text("decay", { inputMode: "decimal", placeholder: "none" }),
    when: select("when", [["", "always"], ...when]),
    part: select("part", [["", "thinking and answer"], ...part]),
    ...Object.fromEntries(Object.values(settings).map((input) => [input.name, input])),
  };
  return { controls, settings };
}

/** Return the field of an intervention that a control is a part of. */
function fieldOf(name) {
  if (name === "which" || name === "decay") return "tokens";
  return name.startsWith("drift-") ? "when" : name;
}

function tokenFields({ scope, which, decay, when, part }) {
  which.setAttribute("aria-describedby", "finer-hint");
  return h(
    "div",
    { class: "row" },
    field("Edited tokens", scope),
    field("of these", which),
    field("Decay", decay),
    field("When", when),
    field("Part", part),
  );
}

function driftFields(settings) {
  const fields = Object.entries(settings).map(([name, input]) => field(DRIFT_TITLES[name] ?? name, input));
  return h("fieldset", { class: "drift", hidden: true }, h("legend", {}, DRIFT_LEGEND), h("div", { class: "row" }, ...fields));
}

/**
 * Return the place of the error of a field, as `element`, and functions: `show(path, message)` marks the control of a field such as
 * "tokens.end" too, and returns whether there is one; `clear()` removes the error.
 */
function fieldError(controls, settings) {
  const element = h("div", { id: "finer-error", "aria-live": "polite" });

  function clear() {
    element.replaceChildren();
    for (const control of Object.values(controls)) {
      if (!control.hasAttribute("aria-invalid")) continue;
      control.removeAttribute("aria-invalid");
      control.removeAttribute("aria-errormessage");
    }
  }

  function show(path, message) {
    clear();
    const [name, key, setting] = path.split(".");
    const byField = {
      scope: controls.scope,
      tokens: key === "decay" ? controls.decay : controls.which,
      when: settings[setting] ?? controls.when,
      part: controls.part,
    };
    const control = byField[name];
    if (!control) return false;
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-errormessage", element.id);
    element.replaceChildren(h("p", { class: "error" }, message));
    return true;
  }
  return { element, clear, show };
}
