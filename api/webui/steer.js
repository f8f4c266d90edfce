/** The view that continues one prompt side by side: unsteered, and steered to each selected language, in one batch. */

import { errorMessage, field, h, languageName, select } from "./dom.js";
import { findNeurons } from "./find_neurons.js";
import { events, json, key, listAll, request } from "./rest.js";

const OP_LABELS = { set: "set to", add: "add", scale: "scale by" };
const PATCHES = [
  ["", "1"],
  ["max", "the maximum in the language"],
  ["median", "the median in the language"],
  ["mean", "the mean in the language"],
];

/** Show the view until `signal` is aborted. */
export async function steerView(main, { signal }) {
  let models;
  let ops;
  let sets = [];
  try {
    models = (await json("v1/models", { signal })).data;
    ops = await knownOps(signal);
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(errorMessage(error));
    return;
  }
  const form = controls(models, ops);
  const languages = h("fieldset", { class: "languages" });
  const lanes = h("section", { class: "lanes", "aria-live": "polite" });
  const code = h("pre");
  let running = new AbortController();
  signal.addEventListener("abort", () => running.abort());

  async function showSets() {
    const model = form.model.value;
    let modelDefault;
    try {
      sets = (await listAll("v1/neuron-sets", { model }, { signal })).reverse();
      modelDefault = await json(`v1/models/${pathOf(model)}/default-neuron-set`, { signal });
    } catch (error) {
      if (!signal.aborted) lanes.replaceChildren(errorMessage(error));
      return;
    }
    const choices = sets.map((set) =>
      h("option", { value: set.id }, titleOf(set) + (set.id === modelDefault.neuron_set ? ", the default" : "")),
    );
    const hasDefault = sets.some((set) => set.id === modelDefault.neuron_set);
    form.neurons.replaceChildren(hasDefault ? "" : h("option", { value: "" }, "choose a neuron set"), ...choices);
    form.neurons.value = hasDefault ? modelDefault.neuron_set : "";
    showLanguages();
  }

  function showLanguages() {
    const set = sets.find(({ id }) => id === form.neurons.value);
    if (set === undefined && sets.length) {
      const message = "this model has several neuron sets and no default; choose one";
      languages.replaceChildren(h("legend", {}, "Languages"), errorMessage({ param: "neurons", message }));
      showCode();
      return;
    }
    if (set === undefined) {
      languages.replaceChildren(h("legend", {}, "Languages"), findNeurons(form.model.value, signal, showSets));
      return;
    }
    const available = Object.entries(set.languages).filter(([, count]) => count > 0);
    const selected = new Set(
      available
        .filter(([language]) => language !== "en")
        .slice(0, 3)
        .map(([language]) => language),
    );
    languages.replaceChildren(
      h("legend", {}, "Languages"),
      ...available.map(([language, count]) =>
        h(
          "label",
          { title: `${count} neurons` },
          h("input", { type: "checkbox", name: "language", value: language, checked: selected.has(language) }),
          languageName(language),
          h("small", {}, String(count)),
        ),
      ),
    );
    showCode();
  }

  const targets = () => [...languages.querySelectorAll("input[name=language]:checked")].map((box) => box.value);

  function intervention(language) {
    const { op, factor, patch } = form;
    return {
      languages: [language],
      op: op.value,
      factor: Number(factor.value),
      patch: op.value === "scale" ? null : patch.value || null,
    };
  }

  function completionBody(language, selection = null) {
    const unsteered = {
      model: form.model.value,
      prompt: form.prompt.value,
      max_tokens: Number(form.tokens.value),
      temperature: Number(form.temperature.value),
      seed: 0,
    };
    if (language === null) return unsteered;
    return { ...unsteered, intervention: { ...intervention(language), selection }, neurons: form.neurons.value };
  }

  function showCode() {
    const [first = null] = targets();
    const header = location.protocol === "https:" || key.get() ? ' -H "Authorization: Bearer $AMPSWEEP_API_KEY"' : "";
    const body = JSON.stringify(completionBody(first), null, 2).replaceAll("'", "'\\''");
    code.replaceChildren(
      `curl ${new URL("v1/completions", location)}${header} -H "Content-Type: application/json" -d '${body}'`,
    );
  }

  async function steer(event) {
    event.preventDefault();
    running.abort();
    running = new AbortController();
    form.stop.disabled = false;
    const variants = [["Unsteered", null, null]];
    for (const language of targets()) {
      variants.push([languageName(language), language, null]);
      if (form.random.checked)
        variants.push([`Random neurons, as many as ${languageName(language)} has`, language, "random"]);
    }
    const started = variants.map(([title, language, selection]) =>
      lane(title, language, completionBody(language, selection), running.signal),
    );
    lanes.replaceChildren(...started.map(({ card }) => card));
    await Promise.all(started.map(({ ended }) => ended));
    form.stop.disabled = true;
  }

  form.element.addEventListener("submit", steer);
  form.element.addEventListener("input", showCode);
  form.stop.addEventListener("click", () => running.abort());
  form.model.addEventListener("change", showSets);
  form.neurons.addEventListener("change", showLanguages);
  form.op.addEventListener("change", () => {
    form.patch.disabled = form.op.value === "scale";
  });
  form.element.querySelector(".where").after(languages);
  main.replaceChildren(form.element, lanes, h("details", {}, h("summary", {}, "The same in a shell"), code));
  showSets();
}

/** Return the name of a model encoded as part of a path. */
function pathOf(model) {
  return model.split("/").map(encodeURIComponent).join("/");
}

function titleOf(set) {
  return `${set.method} on ${set.corpus || "a file"}, ${Object.keys(set.languages).length} languages, ${set.id.slice(0, 11)}`;
}

/** The server's ops with their labels, those labelled here first. */
async function knownOps(signal) {
  const { schemas } = (await json("v1/openapi.json", { signal })).components;
  const names = schemas.InterventionSpec.properties.op.enum;
  const labelled = Object.keys(OP_LABELS).filter((name) => names.includes(name));
  return [...new Set([...labelled, ...names])].map((name) => [name, OP_LABELS[name] ?? name]);
}

/** Return the form as `element`, with its controls by name. */
function controls(models, ops) {
  const inputs = {
    model: select(
      "model",
      models.map(({ id }) => [id, id]),
    ),
    neurons: select("neurons", []),
    prompt: h("textarea", { name: "prompt", rows: 3, required: true, dir: "auto", value: "In Egypt, the currency is" }),
    op: select("op", ops),
    factor: h("input", { name: "factor", type: "number", step: "any", value: "3", required: true }),
    patch: select("patch", PATCHES),
    tokens: h("input", { name: "tokens", type: "number", min: 1, value: "40", required: true }),
    temperature: h("input", {
      name: "temperature",
      type: "number",
      min: 0,
      max: 2,
      step: 0.1,
      value: "0",
      required: true,
    }),
    random: h("input", { name: "random", type: "checkbox" }),
    stop: h("button", { type: "button", disabled: true }, "Stop"),
  };
  const element = h(
    "form",
    { class: "steer" },
    h("div", { class: "row where" }, field("Model", inputs.model), field("Neurons", inputs.neurons)),
    field("Prompt", inputs.prompt),
    h(
      "div",
      { class: "row" },
      field("Activations", inputs.op),
      field("factor", inputs.factor),
      field("times", inputs.patch),
      field("Tokens", inputs.tokens),
      field("Temperature", inputs.temperature),
      h("label", {}, inputs.random, "Add a control with random neurons for each language"),
    ),
    h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Steer"), inputs.stop),
  );
  return { ...inputs, element };
}

/** Start a completion and return the card that shows it; the promise `ended` is resolved in any case. */
function lane(title, language, body, signal) {
  const text = h("p", { class: "text", dir: "auto", lang: language ?? "" });
  const note = h("footer", {}, "…");
  const card = h(
    "article",
    { class: language === null ? "lane baseline" : "lane", "data-language": language ?? "" },
    h("h2", {}, title),
    text,
    note,
  );
  return { card, ended: generate(text, note, card, body, signal) };
}

/** Run a completion: append its text as it is generated, and then show the token count, time and neuron set. */
async function generate(text, note, card, body, signal) {
  const started = performance.now();
  try {
    const response = await request("v1/completions", {
      method: "POST",
      signal,
      body: { ...body, stream: true, stream_options: { include_usage: true } },
    });
    let usage = null;
    let neuronSet = null;
    for await (const { data } of events(response)) {
      if (data === "[DONE]") break;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      const addition = chunk.choices[0]?.text ?? "";
      text.append(text.textContent ? addition : addition.trimStart());
      usage = chunk.usage ?? usage;
      neuronSet = chunk.neuron_set;
    }
    const seconds = (performance.now() - started) / 1000;
    const by = neuronSet === null ? "" : `, steered by ${neuronSet}`;
    note.replaceChildren(`${usage?.completion_tokens ?? "?"} tokens in ${seconds.toFixed(1)} s${by}`);
  } catch (error) {
    note.replaceChildren(signal.aborted ? "stopped" : errorMessage(error));
  } finally {
    card.toggleAttribute("data-ended", true);
  }
}
