/** Elements made in one line. Text goes in as text, never as markup: what a model writes cannot become a tag. */

/**
 * Make an element. `props` sets properties, `on...` listeners among them; `class`, `data-...` and `aria-...` set
 * attributes. Children are nodes or text; null and false are left out.
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

/** A labelled field of a form. */
export function field(label, control) {
  return h("label", { class: "field" }, h("span", {}, label), control);
}

/** A select of `[value, text]` pairs. */
export function select(name, choices, props = {}) {
  const options = choices.map(([value, text]) => h("option", { value }, text));
  const element = h("select", { name }, ...options);
  return Object.assign(element, props);
}

/** A line that says what went wrong, and where. */
export function complaint(error) {
  return h("p", { class: "error", role: "alert" }, error.param ? `${error.param}: ${error.message}` : error.message);
}

const names = new Intl.DisplayNames(undefined, { type: "language", fallback: "code" });

/** A language by name, as "French (fr)"; what is no code stays as it is. */
export function languageName(code) {
  try {
    const name = names.of(code.replaceAll("_", "-"));
    return name === code ? code : `${name} (${code})`;
  } catch {
    return code;
  }
}
