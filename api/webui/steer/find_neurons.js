/** The form that starts the identification of a neuron set. */

import { errorMessage, field, h, select } from "../dom.js";
import { recordingText } from "../format.js";
import { defaultCorpus } from "../new_sweep/offers.js";
import { json } from "../rest.js";

const POLL_MS = 500;
/** Parameters of the methods that the form offers; the others, and empty ones, have the defaults of the server. */
const PARAMS = {
  lape: { top_rate: 0.05 },
  average_precision: { k: "" },
  act_prob: { k: "" },
  random: { top_rate: 0.05, seed: 0 },
};
const TITLES = { top_rate: "Share of neurons", k: "Neurons of each language", seed: "Seed" };

/**
 * Return the form.
 *
 * `methods` are pairs of a method and its label, `corpora` are those of the server, `text` stands above the form.
 * `onStarted` is called with the neuron set once the server knows of it, `onCompleted` once it is identified.
 */
export function findNeurons(model, { methods, corpora, text, signal, onStarted, onCompleted }) {
  const method = select("method", methods);
  const params = h("span", { class: "row" });
  const initial = defaultCorpus(model, corpora);
  const corpus = select("corpus", corpora.map(({ id }) => [id, id]), { value: initial.id });
  const languages = h("input", { name: "codes", value: initial.languages.join(", ") });
  const status = h("p", {}, text);
  const button = h("button", { type: "button" }, "Identify neurons");

  function showParams() {
    const values = Object.entries(PARAMS[method.value] ?? {});
    const input = (name, value) => h("input", { name, type: "number", min: 0, step: "any", value, placeholder: "default" });
    params.replaceChildren(...values.map(([name, value]) => field(TITLES[name], input(name, value), name)));
  }
  showParams();
  method.addEventListener("change", showParams);
  corpus.addEventListener("change", () => {
    languages.value = corpora.find(({ id }) => id === corpus.value).languages.join(", ");
  });
  button.addEventListener("click", async () => {
    button.disabled = true;
    status.replaceChildren("The engine is recording activations on the corpus; this takes a while …");
    const given = [...params.querySelectorAll("input")].filter(({ value }) => value !== "");
    const neurons = {
      method: method.value,
      corpus: corpus.value,
      languages: languages.value.split(/[\s,]+/).filter(Boolean),
      ...Object.fromEntries(given.map(({ name, value }) => [name, Number(value)])),
    };
    try {
      let neuronSet = await json("v1/neuron-sets", { method: "POST", body: { model, neurons }, signal });
      onStarted(neuronSet);
      while (neuronSet.status === "in_progress") {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        neuronSet = await json(`v1/neuron-sets/${neuronSet.id}`, { signal });
        if (neuronSet.progress) status.replaceChildren(recordingText(neuronSet.progress));
      }
      if (neuronSet.status === "failed") throw new Error(neuronSet.error);
      onCompleted(neuronSet);
    } catch (error) {
      if (!signal.aborted) status.replaceChildren(errorMessage(error));
      button.disabled = false;
    }
  });
  function onkeydown(event) {
    if (event.key !== "Enter" || event.isComposing || event.target.tagName !== "INPUT") return;
    event.preventDefault(); // which would send the prompts
    button.click();
  }
  return h(
    "div",
    { class: "row find", onkeydown },
    status,
    field("Method", method, "method"),
    field("Corpus", corpus, "corpus"),
    field("Languages", languages, "languages"),
    params,
    button,
  );
}
