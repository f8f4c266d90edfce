/** The view that continues prompts side by side: unsteered, and steered to each selected language, in one batch. */

import { setParams } from "../address.js";
import { interventionChoices, withoutValue } from "../choices.js";
import { errorMessage, h, languageName } from "../dom.js";
import { neuronSetTitle } from "../format.js";
import { completedSets, listSets } from "../new_sweep/offers.js";
import { json, key } from "../rest.js";
import { onShown } from "../visibility.js";
import { interventionOf, NO_LANGUAGE, paramsOf, restore, setValue, showIntervention, steerControls } from "./controls.js";
import { findNeurons } from "./find_neurons.js";
import { importNeurons } from "./import_neurons.js";
import { startLanes } from "./lanes.js";
import { linkNotes } from "./link_notes.js";
import { presets } from "./presets.js";
import { promptFields } from "./prompts.js";
import { unfinishedSets } from "./unfinished.js";

/** Show the view until `signal` is aborted; `params` are the values of the form, from the address. */
export async function steerView(main, { signal, params }) {
  let models;
  let choices;
  let corpora;
  let sets = [];
  try {
    models = (await json("v1/models", { signal })).data.filter(({ parent }) => !parent); // without named interventions
    choices = await interventionChoices(signal);
    corpora = (await json("v1/corpora", { signal })).data;
  } catch (error) {
    if (!signal.aborted) main.replaceChildren(errorMessage(error));
    return;
  }
  const prompts = promptFields({ onchange: () => changed() });
  const form = steerControls(models, prompts.element, choices);
  const languages = h("fieldset", { class: "languages" });
  const another = h("details", { class: "another" }, h("summary", {}, "Identify or import another neuron set"));
  const answers = h("section", { class: "answers", "aria-label": "Answers" });
  const code = h("pre", { tabIndex: 0 });
  const notes = linkNotes();
  // What the address or the user has chosen; it is selected again whenever the sets or their languages are renewed.
  const wanted = { neurons: params.get("neurons"), languages: params.get("languages")?.split(",").filter(Boolean) };
  let running = new AbortController();
  signal.addEventListener("abort", () => running.abort());
  const identifying = new Set(); // the sets whose progress a form of this page shows
  const unfinished = unfinishedSets({ own: identifying, oncompleted: renewSets, signal });
  let anotherOf = null; // the model of the forms for another neuron set

  /** Show the sets again because there are others: what is chosen stays so, and the focus on the languages if it was there. */
  async function renewSets() {
    const hadFocus = languages.contains(document.activeElement);
    if (form.neurons.value) Object.assign(wanted, { neurons: form.neurons.value, languages: targets() });
    await showSets();
    if (hadFocus) boxes()[0]?.focus();
  }

  /** Show the sets again if there are others than those that are shown, such as one of another tab. */
  async function compareSets() {
    const listed = await listSets(form.model.value, signal).catch(() => null);
    const idsOf = (each) => each.map(({ id }) => id).join();
    if (listed && idsOf(completedSets(listed)) !== idsOf(sets)) renewSets();
  }

  async function showSets() {
    const model = form.model.value;
    let listed;
    let modelDefault;
    try {
      listed = await listSets(model, signal);
      modelDefault = await json(`v1/models/${pathOf(model)}/default-neuron-set`, { signal });
    } catch (error) {
      if (!signal.aborted && model === form.model.value) answers.replaceChildren(errorMessage(error));
      return;
    }
    if (model !== form.model.value) return; // another one was chosen meanwhile
    sets = completedSets(listed);
    const options = sets.map((set) =>
      h("option", { value: set.id }, neuronSetTitle(set) + (set.id === modelDefault.neuron_set ? ", the default" : "")),
    );
    const hasDefault = sets.some((set) => set.id === modelDefault.neuron_set);
    form.neurons.replaceChildren(hasDefault ? "" : h("option", { value: "" }, "choose a neuron set"), ...options);
    form.neurons.value = hasDefault ? modelDefault.neuron_set : "";
    const isKnown = !wanted.neurons || setValue(form.neurons, wanted.neurons);
    notes.show("neurons", isKnown ? "" : `This model has no neuron set ${wanted.neurons}.`);
    if (model !== anotherOf) another.replaceChildren(another.firstChild, finder("Select neurons by another method, or on another corpus:"));
    anotherOf = model;
    another.hidden = !sets.length;
    showLanguages();
    unfinished.watch(model, listed);
  }

  /** Return the forms that identify and that import a neuron set, which is then selected. */
  function finder(text) {
    const model = form.model.value;
    function onCompleted({ id }) {
      if (model !== form.model.value) return; // another one was chosen meanwhile
      Object.assign(wanted, { neurons: id, languages: undefined });
      showSets();
    }
    const onStarted = ({ id }) => identifying.add(id);
    const identify = findNeurons(model, { methods: choices.method, corpora, text, signal, onStarted, onCompleted });
    return h("div", {}, identify, importNeurons(model, { signal, onCompleted }));
  }

  function showLanguages() {
    const set = sets.find(({ id }) => id === form.neurons.value);
    const legend = h("legend", {}, "Languages");
    let missing = [];
    if (set === undefined && sets.length) {
      const message = "this model has several neuron sets and no default; choose one";
      languages.replaceChildren(legend, errorMessage({ param: "neurons", message }));
    } else if (set === undefined) {
      languages.replaceChildren(legend, finder("This model has no neuron set yet."));
    } else {
      const available = Object.entries(set.languages).filter(([, count]) => count > 0);
      const codes = available.map(([language]) => language);
      const selected = wanted.languages ?? codes.filter((language) => language !== "en").slice(0, 3);
      missing = selected.filter((language) => language !== NO_LANGUAGE && !codes.includes(language));
      languages.replaceChildren(legend, ...available.map((each) => languageBox(...each, selected)), selectAll());
    }
    notes.show("languages", missing.length ? `This neuron set has no neurons of ${missing.map(languageName).join(", ")}.` : "");
    showCode();
  }

  function selectAll() {
    const button = h("button", { type: "button", name: "all-languages" }, "Select all");
    button.addEventListener("click", () => {
      for (const box of boxes()) box.checked = true;
      named.leave();
      changed();
    });
    return button;
  }

  const boxes = () => [...languages.querySelectorAll("input[name=language]")];
  const targets = () => boxes().filter((box) => box.checked).map((box) => box.value);

  /** The language whose neurons the control `other` edits: the next one of the neuron set. */
  function otherThan(language) {
    const codes = boxes().map((box) => box.value);
    return codes[(codes.indexOf(language) + 1) % codes.length];
  }

  const intervention = (language, selection) => interventionOf(form, language, selection, otherThan(language));

  const sampling = () => ({ temperature: Number(form.temperature.value), seed: 0 });

  /** Return the request for the unsteered answer to the first prompt. */
  function unsteeredBody() {
    const [content] = prompts.values();
    const tokens = Number(form.tokens.value);
    const asked = prompts.isChat() ? { messages: content, max_completion_tokens: tokens } : { prompt: content, max_tokens: tokens };
    return { model: form.model.value, ...asked, ...sampling() };
  }

  function showCode() {
    const [first] = targets();
    const header = location.protocol === "https:" || key.get() ? ' -H "Authorization: Bearer $AMPSWEEP_API_KEY"' : "";
    const steered = first ? { intervention: intervention(first, ""), neurons: form.neurons.value } : {};
    const body = JSON.stringify({ ...unsteeredBody(), ...steered }, null, 2).replaceAll("'", "'\\''");
    code.replaceChildren(
      `curl ${new URL(prompts.isChat() ? "v1/chat/completions" : "v1/completions", location)}${header} -H "Content-Type: application/json" -d '${body}'`,
    );
  }

  function changed() {
    showCode();
    if (!boxes().length) {
      setParams(prompts.params()); // the languages are not known yet
      return;
    }
    wanted.languages = targets();
    wanted.neurons = form.neurons.value;
    const left = setParams({ ...paramsOf(form, wanted.languages), ...prompts.params() });
    notes.show("address", left.length ? "The prompts are too long for a link: the address does not have them." : "");
  }

  /** Return what each prompt is continued by: nothing, the intervention for each language, and its control. */
  function variants() {
    const { value: control, selectedOptions } = form.control;
    const steered = targets().flatMap((language) => {
      const title = languageName(language);
      const own = { title, language, intervention: intervention(language, "") };
      if (!control) return [own];
      return [own, { title: `${title}: ${withoutValue(selectedOptions[0].text)}`, language, intervention: intervention(language, control) }];
    });
    return [{ title: "Unsteered", language: null, intervention: null }, ...steered];
  }

  async function steer(event) {
    event.preventDefault();
    running.abort();
    running = new AbortController();
    const mine = running; // another click replaces `running`
    form.stop.disabled = false;
    form.state.replaceChildren("Generating …");
    form.finer.clearError();
    const body = { model: form.model.value, max_tokens: Number(form.tokens.value), ...sampling(), neurons: form.neurons.value };
    const started = startLanes({
      variants: variants(),
      prompts: prompts.values(),
      body,
      oncontinue: prompts.isChat() ? prompts.continuation() : undefined,
      onrejected: form.finer.showError,
      signal: mine.signal,
    });
    answers.replaceChildren(...started.elements);
    await started.ended;
    if (mine !== running) return;
    if (document.activeElement === form.stop) form.element.querySelector("button.main").focus(); // a disabled button is no place for it
    form.stop.disabled = true;
    const hasErrors = answers.querySelector(".lane .error") !== null;
    form.state.replaceChildren(mine.signal.aborted ? "Stopped." : hasErrors ? "Ended with errors." : "Done.");
  }

  /** Offer chats if the model has a chat template. */
  function showFormats() {
    prompts.setModel(models.find(({ id }) => id === form.model.value)?.supports_chat ?? false);
  }

  /** Show a preset in the form: its intervention, its languages, its neuron set and its model. Return what the form cannot show. */
  function showPreset({ intervention: shown, neurons, model }) {
    const hidden = showIntervention(form, shown);
    const isOther = model && model !== form.model.value && setValue(form.model, model);
    if (isOther) form.model.dispatchEvent(new Event("change"));
    wanted.languages = Array.isArray(shown.languages) ? shown.languages : Object.keys(shown.languages);
    if (neurons) wanted.neurons = neurons;
    if (isOther) return hidden; // its neuron sets are loading
    if (neurons) setValue(form.neurons, neurons);
    showLanguages();
    changed();
    return hidden;
  }

  const named = presets({
    current: () => ({
      intervention: { ...intervention(targets()[0], ""), languages: targets() },
      neurons: form.neurons.value || undefined,
    }),
    onchosen: showPreset,
    chosen: params.get("preset") ?? "",
    signal,
  });
  form.element.addEventListener("submit", steer);
  form.element.addEventListener("input", ({ target }) => {
    if (form.describes.has(target.name)) named.leave();
    changed();
  });
  form.stop.addEventListener("click", () => running.abort());
  form.model.addEventListener("change", () => {
    wanted.neurons = null;
    showFormats();
    showSets();
  });
  form.neurons.addEventListener("change", () => {
    notes.show("neurons", "");
    showLanguages();
  });
  form.op.addEventListener("change", () => {
    form.magnitude.disabled = form.op.value === "scale";
  });
  onShown(compareSets, signal);
  onShown(named.renew, signal);
  form.element.querySelector(".where").after(unfinished.element, languages, another);
  form.element.querySelector(".buttons").after(named.element);
  main.replaceChildren(notes.element, form.element, answers, h("details", {}, h("summary", {}, "The same in a shell"), code));
  for (const name of restore(form)) notes.show(name, `The link has ${name} “${params.get(name)}”, which this server does not offer.`);
  prompts.restore(params);
  showFormats();
  form.op.dispatchEvent(new Event("change"));
  showSets();
}

function languageBox(language, count, selected) {
  const box = h("input", { type: "checkbox", name: "language", value: language, checked: selected.includes(language) });
  return h("label", { title: `${count} neurons` }, box, languageName(language), h("small", {}, String(count)));
}

/** Return the name of a model encoded as part of a path. */
function pathOf(model) {
  return model.split("/").map(encodeURIComponent).join("/");
}
