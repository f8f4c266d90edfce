/** Notes about what a link asks for and the server does not have, and about what a link cannot keep. */

import { h } from "../dom.js";

/** Return the `element` of the notes, and `show(key, text)`, which replaces the note of a key; an empty text removes it. */
export function linkNotes() {
  const element = h("div", { role: "status" });
  const texts = new Map();
  function show(key, text) {
    if ((texts.get(key) ?? "") === text) return;
    texts.set(key, text);
    element.replaceChildren(...[...texts.values()].filter(Boolean).map((each) => h("p", { class: "warning" }, each)));
  }
  return { element, show };
}
