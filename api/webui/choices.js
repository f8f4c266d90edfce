/** What an intervention can be, read from the server's OpenAPI document, so that the page offers all of it. */

import { json } from "./rest.js";

/** Labels of the values of InterventionSpec that the page knows; others are shown by their names. */
const LABELS = {
  op: { set: "set to", add: "add", scale: "scale by" },
  patch: {
    max: "the maximum in the language",
    median: "the median in the language",
    mean: "the mean in the language",
    difference: "the difference to the mean in the other languages (add only)",
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
};

/** Return pairs of a value and its label for each field of LABELS, those labelled here first. */
export async function interventionChoices(signal) {
  const { schemas } = (await json("v1/openapi.json", { signal })).components;
  const { properties } = schemas.InterventionSpec;
  return Object.fromEntries(
    Object.entries(LABELS).map(([field, labels]) => [field, labelled(valuesOf(properties[field]), labels)]),
  );
}

function valuesOf(schema) {
  return schema.enum ?? schema.anyOf.flatMap((choice) => choice.enum ?? []);
}

function labelled(values, labels) {
  const known = Object.keys(labels).filter((value) => values.includes(value));
  return [...new Set([...known, ...values])].map((value) => [value, labels[value] ?? value]);
}
