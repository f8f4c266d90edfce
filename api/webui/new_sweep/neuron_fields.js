/** The fields of a spec that choose the neuron set: one of the server, or how to identify one. */

import { field, h, languageName, select } from "../dom.js";
import { neuronSetTitle } from "../format.js";
import { numberInput } from "./controls.js";
import { languagePicker } from "./languages.js";
import { defaultCorpus } from "./offers.js";

/** Parameters of each method, by their names in a spec. */
const PARAMS = {
  lape: { top_rate: "Share of neurons" },
  average_precision: { k: "Neurons of each language" },
  act_prob: { k: "Neurons of each language" },
  random: { top_rate: "Share of neurons", seed: "Seed" },
};
/** Parameters that methods do not share; another method drops them. */
const ALL_PARAMS = ["top_rate", "filter_rate", "activation_bar", "k", "seed"];

/** Return the fields. */
export function neuronFields({ spec, offers, sets, edit }) {
  const neurons = spec.neurons ?? {};
  const known = sets.map((set) => [set.id, neuronSetTitle(set)]);
  if (neurons.id && !sets.some(({ id }) => id === neurons.id)) known.push([neurons.id, neurons.id]);
  const source = select("neurons", [["", "find them"], ...known], {
    value: neurons.id ?? "",
    onchange: ({ target }) =>
      edit((changed) => (changed.neurons = target.value ? { id: target.value } : toIdentify(spec.model, offers)), { again: true }),
  });
  return h(
    "fieldset",
    {},
    h("legend", {}, "Neurons"),
    h("div", { class: "row" }, field("Neuron set", source, "neurons"), ...(neurons.id ? [] : methodFields(neurons, offers, edit))),
    neurons.id ? languagesOf(sets.find(({ id }) => id === neurons.id)) : languages(neurons, offers, edit),
  );
}

/** Return the key `neurons` of a spec that identifies a set of a model on the corpus that it has by default. */
function toIdentify(model, { corpora }) {
  const { id, languages } = defaultCorpus(model, corpora);
  return { method: "lape", corpus: id, languages };
}

function methodFields(neurons, offers, edit) {
  const method = select("method", offers.choices.method, {
    value: neurons.method,
    onchange: ({ target }) =>
      edit(
        (spec) => {
          for (const name of ALL_PARAMS) delete spec.neurons[name];
          spec.neurons.method = target.value;
        },
        { again: true },
      ),
  });
  const corpora = [...new Set([...offers.corpora.map(({ id }) => id), neurons.corpus].filter(Boolean))];
  const corpus = select(
    "corpus",
    corpora.map((id) => [id, id]),
    {
      value: neurons.corpus,
      onchange: ({ target }) =>
        edit(
          (spec) => {
            const { languages } = offers.corpora.find(({ id }) => id === target.value);
            Object.assign(spec.neurons, { corpus: target.value, languages });
          },
          { again: true },
        ),
    },
  );
  const params = Object.entries(PARAMS[neurons.method] ?? {}).map(([name, title]) =>
    field(
      title,
      numberInput(
        name,
        neurons[name],
        (value) =>
          edit((spec) => {
            if (value === undefined) delete spec.neurons[name];
            else spec.neurons[name] = value;
          }),
        { min: 0, step: "any", placeholder: "default" },
      ),
      name,
    ),
  );
  return [field("Method", method, "method"), field("Corpus", corpus, "corpus"), ...params];
}

function languages(neurons, offers, edit) {
  const corpus = offers.corpora.find(({ id }) => id === neurons.corpus);
  return languagePicker({
    legend: "Languages to compare",
    name: "neuron-language",
    available: corpus?.languages ?? [],
    selected: neurons.languages ?? [],
    onchange: (codes) => edit((spec) => (spec.neurons.languages = codes), { again: true }),
  });
}

function languagesOf(set) {
  return set ? h("p", { class: "note" }, Object.keys(set.languages).map(languageName).join(", ")) : "";
}
