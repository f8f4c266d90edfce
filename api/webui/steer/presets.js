/** Named interventions: choose one, save the one of the form, delete one. All users of the server share them. */

import { setParams } from "../address.js";
import { openDialog } from "../dialog.js";
import { errorMessage, field, h, select } from "../dom.js";
import { json, request } from "../rest.js";

/**
 * Return the controls. `current` returns the intervention of the form and its neuron set; `onchosen` is called with a
 * preset and returns the fields that the form cannot show; `chosen` is the name of the preset that is chosen first. `leave()` chooses
 * none, because the form is no longer that of the preset; `renew()` lists the presets again.
 */
export function presets({ current, onchosen, chosen, signal }) {
  const list = select("preset", [["", "none"]]);
  const name = h("input", { name: "preset-name", size: 12, placeholder: "name", "aria-label": "Name of the preset" });
  const message = h("span", { role: "status" });
  const save = h("button", { type: "button", name: "save-preset", onclick: onsave }, "Save as preset");
  const remove = h("button", { type: "button", name: "delete-preset", disabled: true, onclick: ondelete }, "Delete");
  let known = [];
  let isSaving = false;

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
    if (isSaving) return;
    isSaving = true;
    try {
      await json("v1/interventions", { method: "POST", body: { name: name.value, ...current() }, signal });
      await load(name.value);
      setParams({ preset: list.value });
      message.replaceChildren(`Saved. Use it through the API as the model name MODEL+${name.value}.`);
    } catch (error) {
      message.replaceChildren(errorMessage(error));
    }
    isSaving = false;
  }

  function ondelete() {
    const path = `v1/interventions/${encodeURIComponent(list.value)}`;
    openDialog({
      title: `Delete the preset “${list.value}”?`,
      content: [h("p", {}, "All users of this server share it.")],
      button: "Delete",
      act: () => request(path, { method: "DELETE", signal }),
      async ondone() {
        await load("");
        setParams({ preset: "" });
        message.replaceChildren("The preset is deleted.");
      },
      signal,
    });
  }

  /** Show the chosen preset in the form, and keep its name in the address. */
  function show() {
    remove.disabled = !list.value;
    const preset = known.find(({ id }) => id === list.value);
    const hidden = preset ? onchosen(preset) : [];
    setParams({ preset: list.value });
    return hidden.length ? `The preset also has ${hidden.join(", ")}, which this form has no control for and does not send.` : "";
  }

  function leave() {
    if (!list.value) return;
    list.value = "";
    remove.disabled = true;
    message.replaceChildren();
    setParams({ preset: "" });
  }

  list.addEventListener("change", () => message.replaceChildren(show()));
  name.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault(); // which would send the prompts
    onsave();
  });
  load(chosen).then(() => {
    if (list.value) message.replaceChildren(show());
    else if (chosen && !signal.aborted && !message.textContent) message.replaceChildren(`There is no preset “${chosen}”.`);
  });
  const renew = () => load(list.value);
  return { element: h("div", { class: "row presets" }, field("Preset", list), name, save, remove, message), leave, renew };
}
