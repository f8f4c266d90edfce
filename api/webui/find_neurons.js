/** A form that has the server find a model's neurons, where it has none yet. */

import { complaint, field, h } from "./dom.js";
import { json } from "./rest.js";

const LOOK_EVERY = 500;

/** Return the form; `found` is called once there is a neuron set. */
export function findNeurons(model, signal, found) {
  const corpus = h("input", { name: "corpus", value: "atlas", required: true });
  const languages = h("input", { name: "codes", value: "en, fr, id, ja, ru, tr, zh", required: true });
  const rate = h("input", {
    name: "top_rate",
    type: "number",
    min: 0,
    max: 1,
    step: "any",
    value: "0.05",
    required: true,
  });
  const said = h("p", {}, "This model has no neuron set yet.");
  const button = h("button", { type: "button" }, "Find neurons");
  button.addEventListener("click", async () => {
    button.disabled = true;
    said.replaceChildren("The engine reads the corpus; this takes a while …");
    const neurons = {
      method: "lape",
      corpus: corpus.value,
      languages: languages.value.split(/[\s,]+/).filter(Boolean),
      top_rate: Number(rate.value),
    };
    try {
      let set = await json("v1/neuron-sets", { method: "POST", body: { model, neurons }, signal });
      while (set.status === "in_progress") {
        await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
        set = await json(`v1/neuron-sets/${set.id}`, { signal });
      }
      if (set.status === "failed") throw new Error(set.error);
      found();
    } catch (error) {
      if (!signal.aborted) said.replaceChildren(complaint(error));
      button.disabled = false;
    }
  });
  return h(
    "div",
    { class: "row" },
    said,
    field("Corpus", corpus),
    field("Languages", languages),
    field("Share of neurons", rate),
    button,
  );
}
