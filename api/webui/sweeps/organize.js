/** Buttons that rename, tag and delete a sweep, for the list of sweeps and the view of one. */

import { openDialog } from "../dialog.js";
import { field, h } from "../dom.js";
import { request } from "../rest.js";
import { ENDED } from "./sweep_parts.js";

/**
 * Return the buttons. `onchanged` is called after the sweep was renamed or tagged, `ondeleted` after it was deleted, which only
 * a sweep that has ended can be.
 */
export function organizeButtons(sweep, { signal, onchanged, ondeleted }) {
  const path = `v1/sweeps/${encodeURIComponent(sweep.id)}`;
  const button = (name, text, onclick) =>
    h("button", { type: "button", name, onclick, "data-key": `${name} ${sweep.id}`, "aria-label": `${text} ${sweep.name}` }, text);
  const buttons = [button("edit", "Edit", () => edit(sweep, path, { signal, ondone: onchanged }))];
  if (ENDED.has(sweep.status)) buttons.push(button("delete", "Delete", () => remove(sweep, path, { signal, ondone: ondeleted })));
  return h("span", { class: "organize" }, ...buttons);
}

function edit(sweep, path, { signal, ondone }) {
  const name = h("input", { name: "sweep-name", value: sweep.name, maxLength: 200, required: true });
  const tags = h("input", { name: "tags", value: sweep.tags.join(", "), placeholder: "paper, qwen" });
  function act() {
    const body = { name: name.value, tags: [...new Set(tags.value.split(/[\s,]+/).filter(Boolean))] };
    return request(path, { method: "PATCH", body, signal });
  }
  const content = [field("Name", name), field("Tags, separated by commas or spaces", tags)];
  openDialog({ title: "Edit the sweep", content, button: "Save", act, ondone, signal });
}

function remove(sweep, path, { signal, ondone }) {
  const text = "Its samples, summary, events and evaluations are deleted for good. Cells that other sweeps need are kept.";
  const act = () => request(path, { method: "DELETE", signal });
  const content = [h("p", {}, text), h("p", {}, h("code", {}, sweep.id))];
  openDialog({ title: `Delete “${sweep.name}”?`, content, button: "Delete", act, ondone, signal });
}

/** Return the tags of a sweep as buttons, each of which calls `onchosen` with its tag. */
export function tagButtons({ id, tags }, onchosen) {
  return tags.map((tag) =>
    h("button", { type: "button", class: "tag", onclick: () => onchosen(tag), "data-key": `${tag} ${id}`, title: "Show the sweeps with this tag" }, tag),
  );
}
