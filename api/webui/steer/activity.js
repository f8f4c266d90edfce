/** The activity of each language's neurons at each token of an answer and its prompt, as a heat map below the answer. */

import { errorMessage, h, languageName } from "../dom.js";
import { extent } from "../figures/axes.js";
import { json } from "../rest.js";

const SHARE = "Number: share of a language's neurons that are active";
const RELATIVE = ", and below it the sum of their activations divided by that of their largest recorded values";
const COLOUR = ". Colour: the share, from the smallest to the largest of this table.";

/**
 * Return a section that is closed; when it is opened first, it asks for the activity and shows it.
 *
 * `body` is the request: model, text, neurons and intervention. `signal` aborts it.
 */
export function activity(body, signal) {
  const content = h("div", {}, h("p", { class: "note" }, "…"));
  const section = h("details", { class: "activity" }, h("summary", {}, "Language neurons at each token"), content);
  section.addEventListener("toggle", () => section.open && show(content, body, signal), { once: true });
  return section;
}

async function show(content, body, signal) {
  try {
    const answer = await json("v1/activations/languages", { method: "POST", body, signal });
    const region = { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Language neurons at each token" };
    const about = `${SHARE}${answer.relative ? RELATIVE : ""}${COLOUR}`;
    content.replaceChildren(h("p", { class: "note" }, about), h("div", region, activityTable(answer)));
  } catch (error) {
    if (!signal.aborted) content.replaceChildren(errorMessage(error));
  }
}

/** Return a table with a row for each token and a column for each language that has neurons. */
function activityTable({ languages, neurons, tokens, active, relative }) {
  const columns = languages.map((_, index) => index).filter((index) => neurons[index] > 0);
  const shares = active.flatMap((row) => columns.map((index) => row[index]));
  const [low, high] = extent(shares);
  const strength = (share) => (high > low ? (share - low) / (high - low) : 0);
  const head = (index) =>
    h("th", { scope: "col", title: `${languageName(languages[index])}, ${neurons[index]} neurons` }, languages[index]);
  const cell = (token, index) => {
    const below = relative?.[token][index] ?? null;
    const element = h(
      "td",
      { class: "up" },
      h("span", { class: "value" }, active[token][index].toFixed(2)),
      below === null ? null : h("small", {}, below.toFixed(2)),
    );
    element.style.setProperty("--share", strength(active[token][index]).toFixed(3));
    return element;
  };
  return h(
    "table",
    { class: "map" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "token"), ...columns.map(head))),
    h(
      "tbody",
      {},
      ...tokens.map(({ text }, token) =>
        h("tr", {}, h("th", { scope: "row", dir: "auto" }, visible(text)), ...columns.map((index) => cell(token, index))),
      ),
    ),
  );
}

/** Return the text of a token with marks for its spaces and line ends; a token without a text is "∅". */
const visible = (text) => text.replaceAll(" ", "·").replaceAll("\n", "↵").replaceAll("\t", "→") || "∅";
