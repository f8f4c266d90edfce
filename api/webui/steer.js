/** The view that continues one prompt side by side: unsteered, and steered to each selected language, in one batch. */

import { interventionChoices } from "./choices.js";
import { errorMessage, field, h, languageName, select } from "./dom.js";
import { findNeurons } from "./find_neurons.js";
import { events, json, key, listAll, request } from "./rest.js";

/** Show the view until `signal` is aborted. */
export async function steerView(main, { signal }) {
  let models;
  let choices;
  let sets = [];
  try {
    models = (await json("v1/models", { signal })).data.filter(({ parent }) => !parent); // without named interventions
    choices = await interventionChoices(signal);
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(errorMessage(error));
    return;
  }
  const form = controls(models, choices);
  const languages = h("fieldset", { class: "languages" });
  const another = h("details", { class: "another" }, h("summary", {}, "Identify another neuron set"));
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
    const options = sets.map((set) =>
      h("option", { value: set.id }, titleOf(set) + (set.id === modelDefault.neuron_set ? ", the default" : "")),
    );
    const hasDefault = sets.some((set) => set.id === modelDefault.neuron_set);
    form.neurons.replaceChildren(hasDefault ? "" : h("option", { value: "" }, "choose a neuron set"), ...options);
    form.neurons.value = hasDefault ? modelDefault.neuron_set : "";
    another.replaceChildren(another.firstChild, finder("Select neurons by another method, or on another corpus:"));
    another.hidden = !sets.length;
    showLanguages();
  }

  /** Return the form that identifies a neuron set, which is then selected. */
  function finder(text) {
    async function onCompleted({ id }) {
      await showSets();
      form.neurons.value = id;
      showLanguages();
    }
    return findNeurons(form.model.value, { methods: choices.method, text, signal, onCompleted });
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
      languages.replaceChildren(h("legend", {}, "Languages"), finder("This model has no neuron set yet."));
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

  function intervention(language, selection) {
    const { op, factor, magnitude } = form;
    const where = { ...layersOf(form.layers.value), ...(form.scope.value === "all" ? {} : { scope: form.scope.value }) };
    if (selection === "zero") return { languages: [language], op: "set", factor: 0, selection, ...where };
    const [field, value] = op.value === "scale" ? ["", ""] : magnitude.value.split(":");
    return {
      languages: [language],
      op: op.value,
      factor: Number(factor.value),
      ...(field ? { [field]: value } : {}),
      ...where,
      ...(selection ? { selection } : {}),
      ...(selection === "other" ? { other: otherThan(language) } : {}),
    };
  }

  /** The language whose neurons the control `other` edits: the next one of the neuron set. */
  function otherThan(language) {
    const codes = [...languages.querySelectorAll("input[name=language]")].map((box) => box.value);
    return codes[(codes.indexOf(language) + 1) % codes.length];
  }

  function completionBody(language, selection = "") {
    const unsteered = {
      model: form.model.value,
      prompt: form.prompt.value,
      max_tokens: Number(form.tokens.value),
      temperature: Number(form.temperature.value),
      seed: 0,
    };
    if (language === null) return unsteered;
    return { ...unsteered, intervention: intervention(language, selection), neurons: form.neurons.value };
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
    const variants = [["Unsteered", null, ""]];
    const { value: control, selectedOptions } = form.control;
    for (const language of targets()) {
      variants.push([languageName(language), language, ""]);
      if (control) variants.push([`${languageName(language)}: ${selectedOptions[0].text}`, language, control]);
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
    form.magnitude.disabled = form.op.value === "scale";
  });
  form.element.querySelector(".where").after(languages, another);
  main.replaceChildren(form.element, lanes, h("details", {}, h("summary", {}, "The same in a shell"), code));
  showSets();
}

/** Return the name of a model encoded as part of a path. */
function pathOf(model) {
  return model.split("/").map(encodeURIComponent).join("/");
}

/** Return the layers of an intervention from their text, such as "0, 3"; nothing for all of them. */
function layersOf(text) {
  const numbers = text.split(/[\s,]+/).filter(Boolean);
  return !numbers.length || numbers[0] === "all" ? {} : { layers: numbers.map(Number) };
}

function titleOf(set) {
  return `${set.method} on ${set.corpus || "a file"}, ${Object.keys(set.languages).length} languages, ${set.id.slice(0, 11)}`;
}

/** Return the form as `element`, with its controls by name. */
function controls(models, { op, patch, statistic, vector, selection, scope }) {
  const of = (field, pairs) => pairs.map(([value, label]) => [`${field}:${value}`, label]);
  const inputs = {
    model: select(
      "model",
      models.map(({ id }) => [id, id]),
    ),
    neurons: select("neurons", []),
    prompt: h("textarea", { name: "prompt", rows: 3, required: true, dir: "auto", value: "In Egypt, the currency is" }),
    op: select("op", op),
    factor: h("input", { name: "factor", type: "number", step: "any", value: "3", required: true }),
    magnitude: select("magnitude", [
      [":", "1"],
      ...of("patch", patch),
      ...of("statistic", statistic),
      ...of("vector", vector),
    ]),
    layers: h("input", { name: "layers", value: "all", size: 8, required: true }),
    scope: select("scope", scope),
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
    control: select("control", [["", "none"], ...selection]),
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
      field("times", inputs.magnitude),
      field("Layers", inputs.layers),
      field("Edited tokens", inputs.scope),
      field("Tokens", inputs.tokens),
      field("Temperature", inputs.temperature),
      field("Control", inputs.control),
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
