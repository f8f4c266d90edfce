/** Creates DOM elements. Text is inserted as text, never as markup, so that generated text cannot become elements. */

/**
 * Create an element. `props` sets properties, including `on...` listeners; `class`, `data-...` and `aria-...` set
 * attributes. Children are nodes or strings; null and false are skipped.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class" || name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

/** Replace the children of an element; the focus stays on the child that has the same `data-key`. */
export function renew(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  element.replaceChildren(...children);
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

/** Return a labelled form field; `key`, its name in a spec or in the body of a request, is shown if the label is another word. */
export function field(label, control, key = label) {
  const isShown = key.toLowerCase() !== label.toLowerCase();
  return h("label", { class: "field" }, h("span", {}, label, isShown && " ", isShown && h("code", {}, key)), control);
}

/** Return a select element of `[value, text]` pairs. */
export function select(name, choices, props = {}) {
  const options = choices.map(([value, text]) => h("option", { value }, text));
  const element = h("select", { name }, ...options);
  return Object.assign(element, props);
}

/** Return a paragraph with the message of an error, and the field that it concerns if the message does not begin with it. */
export function errorMessage({ param, message }) {
  const isNamed = !param || message.startsWith(`${param}:`) || message.startsWith(`${param} `);
  return h("p", { class: "error", role: "alert" }, isNamed ? message : `${param}: ${message}`);
}

const names = new Intl.DisplayNames(undefined, { type: "language", fallback: "code" });

/** Return the name of a language, such as "French (fr)"; text that is not a language code is returned unchanged. */
export function languageName(code) {
  try {
    const name = names.of(code.replaceAll("_", "-"));
    return name === code ? code : `${name} (${code})`;
  } catch {
    return code;
  }
}
