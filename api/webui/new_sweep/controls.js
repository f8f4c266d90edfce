/** Form controls that write to a part of a spec: numbers, lists of numbers, groups of check boxes. */

import { h } from "../dom.js";

const SEPARATOR = /[\s,;]+/;

/** Return an input for a number; `onchange` gets it, or undefined once the input is empty. */
export function numberInput(name, value, onchange, props = {}) {
  return h("input", {
    type: "number",
    name,
    value: value ?? "",
    ...props,
    onchange: ({ target }) => target.reportValidity() && onchange(target.value === "" ? undefined : Number(target.value)),
  });
}

/** Return an input for numbers separated by commas, or for one of `words`; `onchange` gets the list or the word. */
export function numbersInput(name, value, onchange, { words = [] } = {}) {
  const text = Array.isArray(value) ? value.join(", ") : (value ?? "");
  return h("input", {
    name,
    value: text,
    size: 18,
    onchange: ({ target }) => {
      const given = target.value.trim();
      const numbers = given.split(SEPARATOR).filter(Boolean).map(Number);
      const isValid = words.includes(given) || numbers.every(Number.isFinite);
      const hint = ["numbers separated by commas", ...words].join(", or ");
      target.setCustomValidity(isValid ? "" : `Give ${hint}.`);
      if (!target.reportValidity()) return;
      onchange(words.includes(given) ? given : numbers.length ? numbers : undefined);
    },
  });
}

/** Return a group of check boxes; `onchange` gets the value of one and whether it is checked. */
export function boxes(legend, name, choices, checked, onchange) {
  const box = ([value, text]) =>
    h(
      "label",
      {},
      h("input", {
        type: "checkbox",
        name,
        value,
        checked: checked.includes(value),
        onchange: ({ target }) => onchange(value, target.checked),
      }),
      text,
    );
  return h("fieldset", { class: "boxes" }, h("legend", {}, legend), ...choices.map(box));
}

/** Set `object[key]`, or delete it for undefined, an empty text and an empty list. */
export function assign(object, key, value) {
  if (value === undefined || value === "" || value?.length === 0) delete object[key];
  else object[key] = value;
}
