/** The fields of a spec that say what is done to whose neurons. */

import { NO_MAGNITUDE } from "../choices.js";
import { field, h, select } from "../dom.js";
import { assign, boxes, numberInput, numbersInput } from "./controls.js";
import { languagePicker } from "./languages.js";

const VECTOR_FACTORS = [2, 4, 8];

/** Return the fields; `finer` is the group of those that say which tokens are edited. */
export function interventionFields({ spec, offers, sets, finer, edit }) {
  const interventions = spec.interventions ?? {};
  const { choices } = offers;
  const change = (apply, options) => edit((changed) => apply((changed.interventions ??= {})), options);
  const set = (key) => (value) => change((content) => assign(content, key, value));
  const op = select("op", choices.op, { value: interventions.op, onchange: ({ target }) => set("op")(target.value) });
  finer.show(interventions);
  return h(
    "fieldset",
    {},
    h("legend", {}, "Interventions"),
    targets(interventions, availableTargets(spec, sets), change),
    interventions.ops ? operations(interventions.ops) : null,
    h(
      "div",
      { class: "row what" },
      interventions.ops ? null : field("Activations", op, "op"),
      interventions.ops ? null : field("Factors", numbersInput("factors", interventions.factors, set("factors")), "factors"),
      interventions.ops ? null : field("times", magnitude(interventions, choices, change), "patch, statistic"),
      field("Layers", numbersInput("layers", interventions.layers ?? "all", set("layers"), { words: ["all", "each"] }), "layers"),
    ),
    finer.element,
    controls(interventions, choices, change),
    baselines(interventions, choices, change),
  );
}

/** Return a line for several operations, which are edited in the text alone. */
function operations(ops) {
  const line = ({ op, patch, statistic, factors = [1] }) =>
    [op, ...[patch ?? statistic ?? []].flat(), ...[factors].flat().map((factor) => `× ${factor}`)].join(" ");
  const listed = [ops].flat().map((operation) => line(operation ?? {}));
  return h("p", { class: "operations" }, `Operations: ${listed.join("; ")}. Edit them in the text.`);
}

/** Return the languages that can be steered to: those of the neuron set that have neurons, or that are compared. */
function availableTargets({ neurons = {} }, sets) {
  if (!neurons.id) return neurons.languages ?? [];
  const { languages = {} } = sets.find(({ id }) => id === neurons.id) ?? {};
  return Object.keys(languages).filter((code) => languages[code] > 0);
}

/** Return the picker of target languages; languages with weights keep them. */
function targets({ languages }, available, change) {
  const isWeighted = languages !== undefined && !Array.isArray(languages);
  const selected = languages === undefined ? available : isWeighted ? Object.keys(languages) : languages;
  return languagePicker({
    legend: "Steer to",
    name: "target",
    available,
    selected,
    onchange: (codes) =>
      change((content) => {
        const weighted = Object.fromEntries(codes.map((code) => [code, languages?.[code] ?? 1]));
        content.languages = isWeighted ? weighted : codes;
      }),
  });
}

/** Return the select of what the factors multiply: nothing, patch values or statistics. Those of the text may be several. */
function magnitude({ patch, statistic }, choices, change) {
  const of = (key, pairs) => pairs.map(([value, label]) => [`${key}:${value}`, label]);
  const given = Object.entries({ patch, statistic }).find(([, values]) => values);
  const value = given ? `${given[0]}:${[given[1]].flat().join(",")}` : ":";
  const pairs = [NO_MAGNITUDE, ...of("patch", choices.patch), ...of("statistic", choices.statistic)];
  if (!pairs.some(([known]) => known === value)) pairs.push([value, value.replace(":", " ").replaceAll(",", ", ")]);
  return select("magnitude", pairs, {
    value,
    onchange: ({ target }) =>
      change((content) => {
        const [key, names] = target.value.split(":");
        delete content.patch;
        delete content.statistic;
        if (key) content[key] = names.split(",");
      }),
  });
}

function controls({ controls: checked = [], random_draws: draws }, choices, change) {
  const group = boxes("Controls", "controls", choices.controls, checked, (value, isChecked) =>
    change(
      (content) => {
        assign(content, "controls", toggled(content.controls, value, isChecked));
        if (value === "random" && !isChecked) delete content.random_draws;
      },
      { again: value === "random" },
    ),
  );
  if (checked.includes("random")) {
    const input = numberInput(
      "random_draws",
      draws,
      (value) =>
        change((content) => {
          if (value === undefined) delete content.random_draws;
          else content.random_draws = value;
        }),
      { min: 1, max: 100, step: 1, placeholder: "1" },
    );
    group.append(h("label", {}, "Random draws ", input));
  }
  return group;
}

function baselines({ baselines: given = [] }, { prompts, vectors }, change) {
  const checked = given.map((item) => item.method ?? item);
  return boxes("Baselines", "baselines", [...prompts, ...vectors], checked, (value, isChecked) =>
    change((content) => {
      const isVector = vectors.some(([vector]) => vector === value);
      const item = isVector ? { method: value, factors: VECTOR_FACTORS } : value;
      assign(content, "baselines", toggled(content.baselines, item, isChecked));
    }),
  );
}

/** Return a list with an item or without it; an item with a method is the one with the same method. */
function toggled(items = [], item, isPresent) {
  const key = (each) => each.method ?? each;
  const others = items.filter((each) => key(each) !== key(item));
  return isPresent ? [...others, item] : others;
}
