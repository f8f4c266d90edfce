/** Named interventions: choose one, save the one of the form, delete one. All users of the server share them. */

import { errorMessage, field, h, select } from "../dom.js";
import { json, request } from "../rest.js";

/**
 * Return the controls. `current` returns the intervention of the form and its neuron set; `onchosen` is called with a
 * preset; `chosen` is the name of the preset that is chosen first.
 */
export function presets({ current, onchosen, chosen, signal }) {
  const list = select("preset", [["", "none"]]);
  const name = h("input", { name: "preset-name", size: 12, placeholder: "name", "aria-label": "Name of the preset" });
  const message = h("span", { role: "status" });
  const save = h("button", { type: "button", name: "save-preset", onclick: onsave }, "Save as preset");
  const remove = h("button", { type: "button", name: "delete-preset", disabled: true, onclick: ondelete }, "Delete");
  let known = [];

  async function load(value) {
    try {
      known = (await json("v1/interventions", { signal })).data;
    } catch (error) {
      if (!signal.aborted) message.replaceChildren(errorMessage(error));
      return;
    }
    list.replaceChildren(h("option", { value: "" }, "none"), ...known.map(({ id }) => h("option", { value: id }, id)));
    list.value = known.some(({ id }) => id === value) ? value : "";
    remove.disabled = !list.value;
  }

  async function onsave() {
    try {
      await json("v1/interventions", { method: "POST", body: { name: name.value, ...current() }, signal });
      await load(name.value);
      message.replaceChildren(`saved; the link of this page, and the model name MODEL+${name.value}, name it`);
      list.dispatchEvent(new Event("change", { bubbles: true }));
    } catch (error) {
      message.replaceChildren(errorMessage(error));
    }
  }

  async function ondelete() {
    try {
      await request(`v1/interventions/${encodeURIComponent(list.value)}`, { method: "DELETE", signal });
      await load("");
      message.replaceChildren("deleted");
    } catch (error) {
      message.replaceChildren(errorMessage(error));
    }
  }

  list.addEventListener("change", () => {
    remove.disabled = !list.value;
    const preset = known.find(({ id }) => id === list.value);
    if (preset) onchosen(preset);
  });
  const ready = load(chosen).then(() => {
    const preset = known.find(({ id }) => id === chosen);
    if (preset) onchosen(preset);
  });
  return { element: h("div", { class: "row presets" }, field("Preset", list), name, save, remove, message), list, ready };
}
