/**
 * Which tokens of an answer were steered, where `when` or `part` of the intervention lets its text decide: a bracket above them, which
 * is no colour, and a legend.
 */

import { h } from "../dom.js";

/** Return whether the text of an answer decides which of its tokens an intervention steers. */
export const followsText = (intervention) => Boolean(intervention?.when || intervention?.part);

/** Return whether spans, pairs of the first token and the one after the last, have a token. */
export const covers = (spans, token) => spans.some(([first, end]) => first <= token && token < end);

/** Return the legend of the bracket. */
export function steeredLegend() {
  const sample = h("mark", { class: "steered" }, "tokens");
  const text = "steered, because of “When” or “Part”; the others were not. Steering changes what follows a token.";
  return h("div", { class: "legend steering", role: "note", "aria-label": "Legend of the steered tokens" }, h("span", { class: "item" }, sample, h("span", {}, text)));
}

/** Append a piece of an answer, a text or an element. Steered pieces that follow each other have one bracket. */
export function appendPiece(element, piece, isSteered) {
  if (piece === "") return;
  if (isSteered && !element.lastChild?.classList?.contains("steered")) element.append(h("mark", { class: "steered" }));
  (isSteered ? element.lastChild : element).append(piece);
}

/** Return how many tokens were steered and by which neuron set, for the line below an answer; empty without steering. */
export function steeredText({ neuronSet, intervention, tokens }) {
  if (neuronSet === null) return "";
  if (!followsText(intervention)) return `, steered by ${neuronSet}`;
  const count = tokens.filter(({ steered }) => steered).length;
  return `, ${count || "none"} of them steered by ${neuronSet}`;
}
