/** The form that starts the identification of a neuron set for a model that has none. */

import { errorMessage, field, h } from "./dom.js";
import { json } from "./rest.js";

const POLL_MS = 500;

/** Return the form; `onCompleted` is called once the neuron set is identified. */
export function findNeurons(model, signal, onCompleted) {
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
  const status = h("p", {}, "This model has no neuron set yet.");
  const button = h("button", { type: "button" }, "Identify neurons");
  button.addEventListener("click", async () => {
    button.disabled = true;
    status.replaceChildren("The engine is recording activations on the corpus; this takes a while …");
    const neurons = {
      method: "lape",
      corpus: corpus.value,
      languages: languages.value.split(/[\s,]+/).filter(Boolean),
      top_rate: Number(rate.value),
    };
    try {
      let neuronSet = await json("v1/neuron-sets", { method: "POST", body: { model, neurons }, signal });
      while (neuronSet.status === "in_progress") {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        neuronSet = await json(`v1/neuron-sets/${neuronSet.id}`, { signal });
      }
      if (neuronSet.status === "failed") throw new Error(neuronSet.error);
      onCompleted();
    } catch (error) {
      if (!signal.aborted) status.replaceChildren(errorMessage(error));
      button.disabled = false;
    }
  });
  return h(
    "div",
    { class: "row" },
    status,
    field("Corpus", corpus),
    field("Languages", languages),
    field("Share of neurons", rate),
    button,
  );
}
