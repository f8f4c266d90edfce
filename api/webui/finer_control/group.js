/** The group of controls that say which tokens an intervention edits: its fields `scope`, `tokens`, `when` and `part`. */

import { field, h, select } from "../dom.js";
import { choiceOf, FIELDS } from "./choice.js";
import { tokensText } from "./edited_tokens.js";

const HINT =
  "Of these: all, a slice as in Python such as :8 or -4:, or positions such as 0, -1; negative ones count from the end of the prompt. " +
  "Decay: what the strength is multiplied by at each further token, between 0 and 1. " +
  "With When or Part the text of an answer decides which of its tokens are edited, so leave Of these and Decay as they are.";
const SEVERAL = "Each choice of tokens, of When and of Part has cells of its own.";
const TITLES = { tokens: "tokens", when: "When", part: "Part" };

/**
 * Return the group: its `element`, its `controls` by name with their `defaults`, `value()` and `show(value)` of the four fields,
 * `showError(path, message)` and `clearError()`. After its controls were set, `refresh()` says what is set, and `open()` opens it if
 * anything is.
 *
 * `choices` are pairs of a value and its label for `scope`, `when` and `part`, and of a name and its default for `drift`. With `several`,
 * `tokens`, `when` and `part` can have several choices each, as in a spec; their values are lists then. `onchange` is called with the
 * name of the field that the user has changed. `value` leaves out what has its default.
 */
export function finerControl(choices, { several = false, onchange = () => {} } = {}) {
  const scope = select("scope", choices.scope);
  wire([scope], "scope");
  const lists = Object.fromEntries(FIELDS.map((name) => [name, [newChoice(name, 1)]])); // the choices of each field
  const firsts = FIELDS.map((name) => lists[name][0]);
  const all = [scope, ...firsts.flatMap((choice) => choice.controls)];
  const controls = Object.fromEntries(all.map((control) => [control.name, control]));
  const defaults = Object.fromEntries(all.map((control) => [control.name, control.value]));
  const summary = h("span", { class: "set" });
  const error = fieldError();
  const others = h("div");
  const adders = Object.fromEntries(FIELDS.map((name) => [name, button(`add-${name}`, `Add a choice of ${TITLES[name]}`, () => add(name))]));
  const element = h(
    "details",
    { class: "finer" },
    h("summary", {}, "Finer control ", summary),
    h("div", { class: "row" }, field("Edited tokens", scope, "scope"), ...firsts.flatMap((choice) => choice.fields)),
    ...firsts.map((choice) => choice.settings),
    others,
    several && h("div", { class: "row tools" }, ...Object.values(adders), h("span", { class: "note" }, SEVERAL)),
    error.element,
    h("p", { class: "note", id: "finer-hint" }, HINT),
  );

  function wire(inputs, name) {
    for (const input of inputs) {
      input.addEventListener("input", () => {
        error.clear();
        refresh();
      });
      input.addEventListener("change", () => onchange(name));
    }
  }

  function newChoice(name, number) {
    const choice = choiceOf(name, number, choices);
    wire(choice.controls, name);
    return choice;
  }

  function value() {
    const fields = FIELDS.map((name) => [name, valueOf(lists[name])]);
    const given = [["scope", scope.value === "all" ? undefined : scope.value], ...fields];
    return Object.fromEntries(given.filter(([, each]) => each !== undefined));
  }

  function refresh() {
    const set = tokensText(value());
    summary.replaceChildren(set ? `(${set})` : "");
    for (const name of FIELDS) {
      for (const choice of lists[name]) choice.refresh();
      adders[name].disabled = name === "part" && lists[name].length >= lists[name][0].words.length;
    }
  }

  function show({ scope: shownScope, ...fields }) {
    const wasSet = summary.textContent !== "";
    scope.value = shownScope ?? "all";
    for (const name of FIELDS) {
      const values = [fields[name] ?? null].flat();
      if (textOf(asField(values)) !== textOf(valueOf(lists[name]))) setChoices(name, values); // what is equal stays as it was typed
    }
    error.clear();
    refresh();
    if (!wasSet) open(); // a group that the user has closed stays closed
  }

  /** Show the values of the choices of a field, with as many choices as values. */
  function setChoices(name, values) {
    const list = lists[name];
    const { length } = list;
    while (list.length > values.length) list.pop();
    while (list.length < values.length) list.push(newChoice(name, list.length + 1));
    for (const [index, choice] of list.entries()) choice.show(values[index]);
    if (list.length === length) return;
    others.replaceChildren(...FIELDS.flatMap((each) => lists[each].slice(1).flatMap((choice, index) => rowOf(each, choice, index + 1))));
  }

  /** Return the elements of a further choice of a field. */
  function rowOf(name, choice, index) {
    const remove = button(`remove-${name}-${index + 1}`, "Remove", () => {
      const values = lists[name].map((each) => each.value());
      changeChoices(name, values.toSpliced(index, 1));
      adders[name].focus();
    });
    remove.setAttribute("aria-label", `Remove choice ${index + 1} of ${TITLES[name]}`);
    const row = h("div", { class: "row" }, ...choice.fields, remove);
    return choice.settings ? [row, choice.settings] : [row];
  }

  /** Add a choice: the first word that no other choice has, or else the default, which counts once it differs from the others. */
  function add(name) {
    const values = lists[name].map((choice) => choice.value() ?? null);
    const { words } = lists[name][0];
    const free = words.filter((word) => !values.includes(word));
    changeChoices(name, [...values, free.length ? free[0] : (words.at(-1) ?? null)]);
    lists[name].at(-1).controls[0].focus();
  }

  function changeChoices(name, values) {
    const before = textOf(valueOf(lists[name]));
    setChoices(name, values);
    error.clear();
    refresh();
    if (textOf(valueOf(lists[name])) !== before) onchange(name);
  }

  function open() {
    if (summary.textContent) element.open = true;
  }

  /** Show an error about a field such as "tokens.end" or, of the second choice, "tokens.1.end", at its control, if there is one. */
  function showError(path, message) {
    const [name, ...rest] = path.split(".");
    const index = /^\d+$/.test(rest[0] ?? "") ? Number(rest.shift()) : 0;
    const control = name === "scope" ? scope : different(lists[name] ?? [])[index]?.controlOf(rest);
    error.clear();
    if (!control) return;
    error.show(control, message);
    element.open = true;
  }
  return { element, controls, defaults, value, show, refresh, open, showError, clearError: error.clear };
}

/** Return the choices of a field that differ from those before them. */
function different(choices) {
  const texts = choices.map((choice) => textOf(choice.value()));
  return choices.filter((_, index) => texts.indexOf(texts[index]) === index);
}

/** Return the value of a field with these choices. */
const valueOf = (choices) => asField(different(choices).map((choice) => choice.value()));

/** Return the value of a field from those of its choices: the only one, or a list in which null is the default. */
const asField = (values) => (values.length > 1 ? values.map((each) => each ?? null) : (values[0] ?? undefined));

const textOf = (value) => JSON.stringify(value ?? null);

const button = (name, text, onclick) => h("button", { type: "button", name, onclick }, text);

/** Return the place of the error of a field, as `element`; `show(control, message)` marks its control too, and `clear()` removes both. */
function fieldError() {
  const element = h("div", { id: "finer-error", "aria-live": "polite" });
  let marked = null;

  function clear() {
    element.replaceChildren();
    marked?.removeAttribute("aria-invalid");
    marked?.removeAttribute("aria-errormessage");
    marked = null;
  }

  function show(control, message) {
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-errormessage", element.id);
    element.replaceChildren(h("p", { class: "error" }, message));
    marked = control;
  }
  return { element, clear, show };
}
