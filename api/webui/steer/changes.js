/**
 * How steering changed the log-probability of each token of an answer: the unsteered model scores the same tokens, and each
 * token is marked by the difference, by colour and by its underline.
 */

import { h } from "../dom.js";
import { json } from "../rest.js";
import { withIds } from "./encoding.js";
import { appendPiece, followsText } from "./steered_tokens.js";

/** From which change of the log-probability (in nats) on a token is marked, how, and what the legend says. */
const LEVELS = [
  ["more-3", 5, "more likely by 5 nats or more"],
  ["more-2", 2, "by 2 to 5 nats"],
  ["more-1", 0.5, "by 0.5 to 2 nats"],
  ["", -0.5, ""],
  ["less", -Infinity, "less likely by more than 0.5 nats"],
];
const TITLES = ["Token", "Steered", "Unsteered", "Change"];

/** Return the legend of the marks. */
export function legend() {
  const items = LEVELS.filter(([name]) => name).map(([name, , text]) =>
    h("span", { class: "item" }, h("span", { class: `token ${name}` }, "token"), text),
  );
  const intro = h("span", {}, "Under steering, compared with the unsteered model:");
  return h("div", { class: "legend changes", role: "note", "aria-label": "Legend of the marked tokens" }, intro, ...items);
}

/**
 * Mark the tokens of steered answers, and list them below. A lane has `position` (that of its prompt), `tokens` (`id`,
 * `logprob`, `offset`, `text`), `raw` (its text), and the elements `text` and `note`.
 */
export async function markChanges(lanes, inputs, model, signal) {
  const ids = await withIds(inputs, model, signal);
  const prompt = lanes.map((lane) => [...ids[lane.position], ...lane.tokens.map(({ id }) => id)]);
  const body = { model, prompt, max_tokens: 0, echo: true, logprobs: 0 };
  const { choices } = await json("v1/completions", { method: "POST", body, signal });
  for (const { index, logprobs } of choices) {
    const lane = lanes[index];
    const scores = logprobs.token_logprobs.slice(-lane.tokens.length);
    const scored = lane.tokens.map((token, order) => ({ ...token, unsteered: scores[order], change: token.logprob - scores[order] }));
    lane.text.replaceChildren();
    for (const piece of pieces(lane.raw, scored)) appendPiece(lane.text, markedText(piece), piece.steered);
    lane.note.after(tokenTable(scored, followsText(lane.intervention)));
  }
}

/**
 * Return the text in pieces with the change of each, and whether it is steered. Tokens that are parts of one character are one piece,
 * whose change is the sum of theirs, and which is steered if the last of them is. Offsets count code points. White space at the
 * start is left out.
 */
export function pieces(raw, tokens) {
  const characters = [...raw];
  const list = [];
  let change = 0;
  for (const [index, token] of tokens.entries()) {
    change += token.change;
    const text = characters.slice(token.offset, tokens[index + 1]?.offset ?? characters.length).join("");
    if (!text) continue;
    const shown = list.length ? text : text.trimStart();
    if (shown) list.push({ text: shown, change, steered: token.steered });
    change = 0;
  }
  return list;
}

const levelOf = (change) => LEVELS.find(([, least]) => change >= least)[0];

function markedText({ text, change }) {
  const level = levelOf(change);
  return level ? h("span", { class: `token ${level}`, title: `${signed(change)} nats` }, text) : text;
}

const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(2);

/**
 * Return the tokens with both log-probabilities, for those who see neither colours nor the texts of a pointer; `hasParts` also lists
 * which of them were steered.
 */
function tokenTable(tokens, hasParts) {
  const number = (text) => h("td", { class: "number" }, text);
  const rows = tokens.map(({ text, logprob, unsteered, change, steered }) =>
    h(
      "tr",
      {},
      h("td", {}, h("code", { dir: "auto" }, text)),
      ...[logprob.toFixed(2), unsteered.toFixed(2), signed(change)].map(number),
      hasParts ? h("td", {}, steered ? "yes" : "no") : null,
    ),
  );
  const heads = [...TITLES, ...(hasParts ? ["Was steered"] : [])].map((title) => h("th", { scope: "col" }, title));
  const table = h("table", {}, h("caption", {}, "Log-probabilities in nats"), h("thead", {}, h("tr", {}, ...heads)), h("tbody", {}, ...rows));
  return h(
    "details",
    { class: "tokens" },
    h("summary", {}, "Tokens"),
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Tokens and their log-probabilities" }, table),
  );
}
