/** What the server offers to specs, and the spec that a new form begins with. */

import { sweepChoices } from "../choices.js";
import { json, listAll } from "../rest.js";

/** Return models, corpora, data sets, tasks and languages of the server, and the values of the fields of a spec. */
export async function loadOffers(signal) {
  const names = ["models", "corpora", "data-sets", "tasks", "languages"];
  const lists = names.map(async (name) => (await json(`v1/${name}`, { signal })).data);
  const [models, corpora, dataSets, tasks, languages] = await Promise.all(lists);
  const choices = await sweepChoices(signal);
  const bare = models.filter(({ parent }) => !parent); // without named interventions
  return { models: bare, corpora, dataSets, tasks, languages: languages.map(({ id }) => id), choices };
}

/** Return the neuron sets of a model, oldest first; those follow that are being identified or have failed. */
export const listSets = (model, signal) => listAll("v1/neuron-sets", { model }, { signal });

/** Return those of listed neuron sets that can be used, newest first. */
export const completedSets = (listed) => listed.filter(({ status }) => status === "completed").reverse();

/** Name of the bundled model and of its corpus. */
const BUNDLED = "atlas";

/**
 * Return the corpus on which neurons of a model are found by default: of the bundled model its own one, of others the first of the
 * operator's, and the bundled one if there is no other.
 */
export function defaultCorpus(model, corpora) {
  const others = corpora.filter(({ id }) => id !== BUNDLED);
  const own = corpora.find(({ id }) => id === BUNDLED);
  const preferred = model === BUNDLED ? [own, ...others] : [...others, own];
  return preferred.find(Boolean) ?? { id: "", languages: [] };
}

/** Return a spec that can be planned as it is, if the server has a model and a corpus. */
export function firstSpec({ models, corpora, tasks }) {
  const corpus = defaultCorpus(models[0]?.id, corpora);
  const languages = corpus.languages;
  const targets = languages.filter((code) => code !== "en").slice(0, 3);
  const { id: task, languages: available } = tasks.find(({ languages: codes }) => codes?.length) ?? tasks[0];
  const data = (available ?? languages).filter((code) => languages.includes(code)).slice(0, 2);
  return {
    name: "first-look",
    model: models[0]?.id ?? "",
    neurons: { method: "lape", corpus: corpus.id, languages, top_rate: 0.05 },
    interventions: { languages: targets, op: "set", factors: [0, 0.5, 3], controls: ["random"] },
    tasks: [{ name: task, languages: data, limit: 40 }],
  };
}

const DEFAULTS = {
  spec: { mode: ["corrected"], seed: 0 },
  interventions: { layers: "all", scope: "all", controls: [], baselines: [], random_draws: 1 },
  task: { chat: false },
};

/** Return the spec of a sweep without the defaults that the server has filled in. */
export function withoutDefaults({ interventions, tasks, ...rest }) {
  return {
    ...without(rest, DEFAULTS.spec),
    interventions: without(interventions, DEFAULTS.interventions),
    tasks: tasks.map((task) => without(task, DEFAULTS.task)),
  };
}

function without(object, defaults) {
  const isDefault = ([key, value]) => key in defaults && JSON.stringify(value) === JSON.stringify(defaults[key]);
  return Object.fromEntries(Object.entries(object).filter((entry) => !isDefault(entry)));
}
