/** A group of check boxes that chooses languages by their names. */

import { h, languageName } from "../dom.js";

const MANY = 12;

/**
 * Return the group. `available` and `selected` are codes; `onchange` is called with the selected codes, in the order of
 * `available`. A long list can be searched.
 */
export function languagePicker({ legend, name, available, selected, onchange }) {
  const codes = [...new Set([...available, ...selected])].sort((a, b) => languageName(a).localeCompare(languageName(b)));
  const boxes = codes.map((code) => h("input", { type: "checkbox", name, value: code, checked: selected.includes(code) }));
  const labels = boxes.map((box) => h("label", {}, box, languageName(box.value)));
  const summary = h("small", { class: "count" });
  const count = () => summary.replaceChildren(`${boxes.filter((box) => box.checked).length} of ${boxes.length}`);
  const report = () => {
    count();
    onchange(boxes.filter((box) => box.checked).map((box) => box.value));
  };
  function selectAll(checked) {
    for (const [index, box] of boxes.entries()) if (!labels[index].hidden) box.checked = checked;
    report();
  }
  const all = h("button", { type: "button", name: `${name}-all`, onclick: () => selectAll(true) }, "Select all");
  const none = h("button", { type: "button", name: `${name}-none`, onclick: () => selectAll(false) }, "None");
  count();
  return h(
    "fieldset",
    { class: "languages" },
    h("legend", {}, legend, " ", summary),
    h("div", { class: "tools" }, all, none, codes.length > MANY ? search(legend, labels) : null),
    h("div", { class: "options", onchange: report }, ...labels),
  );
}

/** Return an input that hides the languages whose names and codes do not contain its text. */
function search(legend, labels) {
  return h("input", {
    type: "search",
    placeholder: "Find a language",
    "aria-label": `Find a language in ${legend}`,
    oninput: ({ target }) => {
      const wanted = target.value.trim().toLowerCase();
      for (const label of labels) label.hidden = !label.textContent.toLowerCase().includes(wanted);
    },
    onchange: (event) => event.stopPropagation(),
  });
}
