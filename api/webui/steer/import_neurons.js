/** The control that imports a neuron set from a JSON file: `{language: {layer: [index, ...]}}`. */

import { errorMessage, field, h } from "../dom.js";
import { json } from "../rest.js";

/** Return the control; `onCompleted` is called with the neuron set once it is imported for `model`. */
export function importNeurons(model, { signal, onCompleted }) {
  const message = h("span", { role: "status" });
  const input = h("input", { type: "file", name: "neuron-file", accept: ".json,application/json" });
  input.addEventListener("change", async () => {
    try {
      const neurons = parsed(await input.files[0].text());
      onCompleted(await json("v1/neuron-sets", { method: "POST", body: { model, neurons }, signal }));
    } catch (error) {
      if (!signal.aborted) message.replaceChildren(errorMessage(error));
    }
    input.value = ""; // so that the same file can be chosen again once it is corrected
  });
  return h("div", { class: "row import" }, field("Import a neuron set (JSON)", input), message);
}

/** Return the neurons of a file, which may also be the body of a request, with a key `neurons`. */
function parsed(text) {
  try {
    const content = JSON.parse(text);
    return content?.neurons ?? content;
  } catch (error) {
    throw new Error(`the file is not JSON: ${error.message}`);
  }
}
