/** One prompt, continued side by side: unsteered, and steered to each chosen language, all in one batch. */

import { complaint, field, h, languageName, select } from "./dom.js";
import { findNeurons } from "./find_neurons.js";
import { ask, events, json, key, listed } from "./rest.js";

const OP_LABELS = { set: "set to", add: "add", scale: "scale by" };
const PATCHES = [
  ["", "one: the number itself"],
  ["max", "the max in its language"],
  ["median", "the median in its language"],
  ["mean", "the mean in its language"],
];

/** Show the view; `signal` ends it. */
export async function steerView(main, { signal }) {
  let models;
  let ops;
  let sets = [];
  try {
    models = (await json("v1/models", { signal })).data;
    ops = await knownOps(signal);
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(complaint(error));
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
    let byDefault;
    try {
      sets = (await listed("v1/neuron-sets", { model }, { signal })).reverse();
      byDefault = await json(`v1/models/${pathOf(model)}/default-neuron-set`, { signal });
    } catch (error) {
      if (!signal.aborted) lanes.replaceChildren(complaint(error));
      return;
    }
    const choices = sets.map((set) =>
      h("option", { value: set.id }, titleOf(set) + (set.id === byDefault.neuron_set ? ", the default" : "")),
    );
    const known = sets.some((set) => set.id === byDefault.neuron_set);
    form.neurons.replaceChildren(known ? "" : h("option", { value: "" }, "choose a neuron set"), ...choices);
    form.neurons.value = known ? byDefault.neuron_set : "";
    showLanguages();
  }

  function showLanguages() {
    const set = sets.find((one) => one.id === form.neurons.value);
    if (set === undefined && sets.length) {
      const message = "the model has several neuron sets and no default; choose one";
      languages.replaceChildren(h("legend", {}, "Languages"), complaint({ param: "neurons", message }));
      showCode();
      return;
    }
    if (set === undefined) {
      languages.replaceChildren(h("legend", {}, "Languages"), findNeurons(form.model.value, signal, showSets));
      return;
    }
    const known = Object.entries(set.languages).filter(([, count]) => count > 0);
    const chosen = new Set(
      known
        .filter(([language]) => language !== "en")
        .slice(0, 3)
        .map(([language]) => language),
    );
    languages.replaceChildren(
      h("legend", {}, "Languages"),
      ...known.map(([language, count]) =>
        h(
          "label",
          { title: `${count} neurons` },
          h("input", { type: "checkbox", name: "language", value: language, checked: chosen.has(language) }),
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

  function request(language, selection = null) {
    const asked = {
      model: form.model.value,
      prompt: form.prompt.value,
      max_tokens: Number(form.tokens.value),
      temperature: Number(form.temperature.value),
      seed: 0,
    };
    if (language === null) return asked;
    return { ...asked, intervention: { ...intervention(language), selection }, neurons: form.neurons.value };
  }

  function showCode() {
    const [first = null] = targets();
    const header = location.protocol === "https:" || key.get() ? ' -H "Authorization: Bearer $AMPSWEEP_API_KEY"' : "";
    const body = JSON.stringify(request(first), null, 2).replaceAll("'", "'\\''");
    code.replaceChildren(
      `curl ${new URL("v1/completions", location)}${header} -H "Content-Type: application/json" -d '${body}'`,
    );
  }

  async function steer(event) {
    event.preventDefault();
    running.abort();
    running = new AbortController();
    form.stop.disabled = false;
    const asked = [["Unsteered", null, null]];
    for (const language of targets()) {
      asked.push([languageName(language), language, null]);
      if (form.random.checked)
        asked.push([`Random neurons, as many as ${languageName(language)} has`, language, "random"]);
    }
    const all = asked.map(([title, language, selection]) =>
      lane(title, language, request(language, selection), running.signal),
    );
    lanes.replaceChildren(...all.map(({ card }) => card));
    await Promise.all(all.map(({ ended }) => ended));
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
  main.replaceChildren(form.element, lanes, h("details", {}, h("summary", {}, "The same from a shell"), code));
  showSets();
}

/** A model's name as a part of a path. */
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

/** The form, and by name what is in it. */
function controls(models, ops) {
  const named = {
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
    h("div", { class: "row where" }, field("Model", named.model), field("Neurons", named.neurons)),
    field("Prompt", named.prompt),
    h(
      "div",
      { class: "row" },
      field("Activations", named.op),
      field("factor", named.factor),
      field("times", named.patch),
      field("Tokens", named.tokens),
      field("Temperature", named.temperature),
      h("label", {}, named.random, "beside each, as many random neurons"),
    ),
    h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, "Steer"), named.stop),
  );
  return { ...named, element };
}

/** A card that fills with text as it is drawn: `ended` is kept whatever happens. */
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
  return { card, ended: draw(text, note, card, body, signal) };
}

async function draw(text, note, card, body, signal) {
  const begun = performance.now();
  try {
    const answer = await ask("v1/completions", {
      method: "POST",
      signal,
      body: { ...body, stream: true, stream_options: { include_usage: true } },
    });
    let usage = null;
    let steeredBy = null;
    for await (const { data } of events(answer)) {
      if (data === "[DONE]") break;
      const piece = JSON.parse(data);
      if (piece.error) throw new Error(piece.error.message);
      const drawn = piece.choices[0]?.text ?? "";
      text.append(text.textContent ? drawn : drawn.trimStart());
      usage = piece.usage ?? usage;
      steeredBy = piece.neuron_set;
    }
    const seconds = (performance.now() - begun) / 1000;
    const by = steeredBy === null ? "" : `, by ${steeredBy}`;
    note.replaceChildren(`${usage?.completion_tokens ?? "?"} tokens in ${seconds.toFixed(1)} s${by}`);
  } catch (error) {
    note.replaceChildren(signal.aborted ? "stopped" : complaint(error));
  } finally {
    card.toggleAttribute("data-ended", true);
  }
}
