/**
 * What an intervention and a sweep can be, read from the server's OpenAPI document, so that the page offers all of it.
 */

import { json } from "./rest.js";

/** Labels of the values that the page knows, by field; others are shown by their names. */
const LABELS = {
  op: { set: "set to", add: "add", scale: "scale by" },
  patch: {
    max: "the maximum in the language",
    median: "the median in the language",
    mean: "the mean in the language",
    difference: "the difference to the mean in the other languages (add only)",
  },
  statistic: {
    mean: "the mean of the token's layer",
    median: "the median of the token's layer",
    max: "the maximum of the token's layer",
    std: "the standard deviation of the token's layer",
    iqr: "the interquartile range of the token's layer",
    mad: "the median absolute deviation of the token's layer",
  },
  vector: {
    diffmean: "the difference of mean residuals, unit length (add only)",
    diffmean_raw: "the difference of mean residuals (add only)",
  },
  selection: {
    random: "random neurons, as many",
    other: "the neurons of another language",
    zero: "the same neurons set to 0",
    non_language: "neurons of no language, as many",
  },
  scope: { all: "all", prompt: "of the prompt", generation: "generated" },
  when: { drift: "while the text is in another language" },
  part: { thinking: "only what the model thinks", answer: "only the answer" },
  method: {
    lape: "LAPE",
    average_precision: "average precision",
    act_prob: "activation probability",
    activated: "always active",
    random: "random",
  },
  controls: {
    random: "random neurons",
    other: "another language's neurons",
    zero: "set to 0",
    non_language: "neurons of no language",
    repeat: "unsteered once more (noise)",
  },
  vectors: {
    diffmean: "difference of mean residuals, unit length",
    diffmean_raw: "difference of mean residuals",
  },
  baselines: { prompt_en: "instruction in English", prompt_native: "instruction in the language" },
};
const STEER_FIELDS = ["op", "patch", "statistic", "vector", "selection"];

/**
 * Return pairs of a value and its label for each field of an intervention that has a fixed set of values, and for the
 * `method` that identifies neurons.
 */
export async function interventionChoices(signal) {
  const { InterventionSpec, NeuronsByMethod, Drift } = await schemas(signal);
  const fields = STEER_FIELDS.map((name) => [name, choicesOf(name, InterventionSpec.properties[name])]);
  return {
    ...Object.fromEntries(fields),
    method: choicesOf("method", NeuronsByMethod.properties.method),
    finer: finerChoices(InterventionSpec, Drift),
  };
}

/** Return pairs of a value and its label for the fields of a sweep's spec that have a fixed set of values. */
export async function sweepChoices(signal) {
  const { InterventionsSpec, NeuronsByMethod, VectorBaseline, Drift } = await schemas(signal);
  const { op, patch, statistic, controls, baselines } = InterventionsSpec.properties;
  return {
    method: choicesOf("method", NeuronsByMethod.properties.method),
    op: choicesOf("op", op),
    patch: choicesOf("patch", patch),
    statistic: choicesOf("statistic", statistic),
    finer: finerChoices(InterventionsSpec, Drift),
    controls: choicesOf("controls", controls),
    prompts: choicesOf("baselines", baselines),
    vectors: choicesOf("vectors", VectorBaseline.properties.method),
  };
}

/** Return the choices of the fields that say which tokens are edited, and the settings of `drift` with their defaults. */
function finerChoices({ properties }, drift) {
  const fields = ["scope", "when", "part"].map((name) => [name, choicesOf(name, properties[name])]);
  const settings = Object.entries(drift.properties).map(([name, schema]) => [name, schema.default]);
  return { ...Object.fromEntries(fields), drift: settings };
}

async function schemas(signal) {
  return (await json("v1/openapi.json", { signal })).components.schemas;
}

const choicesOf = (name, schema) => labelled(valuesOf(schema), LABELS[name]);

/** Return the values that a schema names, of a field or of the items of a list. */
function valuesOf(schema) {
  if (schema.const !== undefined) return [schema.const];
  const parts = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.items ? [schema.items] : [])];
  return schema.enum ?? schema.examples ?? parts.flatMap(valuesOf);
}

/** Return the values with their labels, those labelled here first. A label has the value, as a spec has it, in brackets. */
function labelled(values, labels) {
  const known = Object.keys(labels).filter((value) => values.includes(value));
  const text = (value) => (!labels[value] || labels[value] === value ? value : `${labels[value]} [${value}]`);
  return [...new Set([...known, ...values])].map((value) => [value, text(value)]);
}

/** Return a label without the value in brackets. */
export const withoutValue = (label) => label.replace(/ \[[^\]]*\]$/, "");

/** The choice of a magnitude that multiplies the factor by nothing. */
export const NO_MAGNITUDE = [":", "1 (the factor alone)"];
