/** Continues prompts with several interventions in one streamed request, and shows each answer in its lane. */

import { errorMessage, h, languageName } from "../dom.js";
import { events, json, request } from "../rest.js";
import { activity } from "./activity.js";
import { legend, markChanges } from "./changes.js";
import { encode, titleOf } from "./encoding.js";
import { appendPiece, covers, followsText, steeredLegend, steeredText } from "./steered_tokens.js";

/** They estimate the height of an answer, so that the page does not jump while it is generated. */
const CHARACTERS_PER_TOKEN = 4;
const CHARACTERS_PER_LINE = 36;
/** An answer that may be longer grows from here on, because it may be shorter too. */
const MAX_LINES = 20;
/** How many texts the server identifies the languages of at once. */
const MAX_TEXTS = 256;
/** The parameter of an error about one intervention, and what its message begins with: the position says nothing to the user. */
const REJECTED = /^interventions\.(\d+)\.?(.*)$/;
const POSITION = /^interventions\.\d+\.?/;

/**
 * Return the sections of the prompts with the cards of their lanes, and a promise that is resolved when all have ended.
 *
 * `variants` are what each prompt is continued by: `title`, `language` (null without steering) and `intervention` (null without
 * one). `prompts` are texts or lists of messages, `body` is the request without both; `signal` aborts it. If `oncontinue` is given, it is
 * called with the position of a prompt and an answer when the user continues a chat from there. `onrejected` is called with the
 * path of a field of an intervention, such as "tokens.end", and the message of the server that rejects it.
 */
export function startLanes({ variants, prompts, body, oncontinue, onrejected, signal }) {
  const rows = variants.map((variant) => ({
    ...variant,
    lanes: prompts.map((_, position) => lane(variant, { position, tokens: body.max_tokens, oncontinue })),
  }));
  const sections = prompts.map((prompt, position) =>
    h(
      "section",
      { class: "asked" },
      h("h2", { dir: "auto" }, titleOf(prompt)),
      h("div", { class: "lanes" }, ...rows.map(({ lanes }) => lanes[position].card)),
    ),
  );
  const has = (test) => variants.some(({ intervention }) => intervention !== null && test(intervention));
  const legends = [has(() => true) && legend(), has(followsText) && steeredLegend()].filter(Boolean);
  return { elements: [...legends, ...sections], ended: run(rows, prompts, body, { onrejected, signal }) };
}

function lane({ title, language, intervention }, { position, tokens, oncontinue }) {
  const text = h("p", { class: "text", dir: "auto", lang: language ?? "" });
  const lines = Math.ceil((tokens * CHARACTERS_PER_TOKEN) / CHARACTERS_PER_LINE);
  text.style.setProperty("--lines", String(Math.min(lines, MAX_LINES)));
  const tags = h("p", { class: "tags" });
  const note = h("footer", {}, "…");
  const card = h(
    "article",
    { class: language === null ? "lane baseline" : "lane", "data-language": language ?? "" },
    h("h3", {}, title),
    text,
    tags,
    note,
  );
  const own = { card, text, tags, note, position, intervention, raw: "", tokens: [], neuronSet: null };
  if (oncontinue) {
    const onclick = () => oncontinue(position, own.raw.trim());
    own.proceed = h("button", { type: "button", name: "continue", disabled: true, onclick }, "Continue the chat from here");
    note.after(own.proceed);
  }
  return own;
}

/** Run the rows in one request. A row whose intervention is rejected shows why; the request is repeated without it. */
async function run(rows, prompts, body, { onrejected, signal }) {
  let asked = rows;
  let inputs;
  const started = performance.now();
  while (asked.length) {
    const lanes = asked.flatMap((row) => row.lanes);
    for (const each of lanes) restart(each);
    try {
      inputs ??= await encode(prompts, body.model, signal);
      await stream(asked, lanes, inputs, body, signal);
      for (const each of lanes) {
        end(each, about(each, started));
        // an intervention that follows a running text has no activity in a given one
        if (!followsText(each.intervention)) each.note.after(activity(activityBody(each, prompts, body), signal));
      }
      await Promise.all([tag(lanes, signal), compare(lanes, inputs, body.model, signal)]);
      return;
    } catch (error) {
      const [, rejected, path] = REJECTED.exec(error.param ?? "") ?? [];
      const failed = signal.aborted || rejected === undefined ? asked : [asked[rejected]];
      const shown = rejected === undefined ? error : { param: path, message: error.message.replace(POSITION, "") };
      for (const each of failed.flatMap((row) => row.lanes)) {
        end(each, each.isComplete ? about(each, started) : signal.aborted ? "stopped" : errorMessage(shown));
      }
      if (path && !signal.aborted) onrejected(path, shown.message);
      asked = asked.filter((each) => !failed.includes(each));
    }
  }
}

function restart(lane) {
  lane.text.replaceChildren();
  Object.assign(lane, { raw: "", tokens: [], isComplete: false });
}

/** Return the line below a complete answer; `started` is when its request began. */
function about(lane, started) {
  const seconds = (performance.now() - started) / 1000;
  const { length } = lane.tokens;
  return `${length} ${length === 1 ? "token" : "tokens"} in ${seconds.toFixed(1)} s${steeredText(lane)}`;
}

function end({ card, note, proceed, raw }, content) {
  note.replaceChildren(content);
  if (proceed) Object.assign(proceed, { disabled: false, hidden: !raw.trim() });
  card.toggleAttribute("data-ended", true);
}

/** Stream the answers into their lanes: all prompts with the first intervention, then with the second, and so on. */
async function stream(rows, lanes, inputs, body, signal) {
  const prompt = inputs.length === 1 ? inputs[0] : inputs;
  const response = await request("v1/completions", {
    method: "POST",
    signal,
    body: { ...body, prompt, ...interventionsOf(rows, body), stream: true, logprobs: 0 },
  });
  for await (const { data } of events(response, { last: "[DONE]" })) {
    const chunk = JSON.parse(data);
    if (chunk.error) throw Object.assign(new Error(chunk.error.message), { param: chunk.error.param });
    for (const choice of chunk.choices) add(lanes[choice.index], choice, chunk.neuron_set);
  }
}

function add(lane, { text, logprobs, finish_reason: ending, steered_spans: spans = [] }, neuronSet) {
  const { token_ids: ids = [], token_logprobs: scores, text_offset: offsets, tokens } = logprobs ?? {};
  const first = lane.tokens.length;
  const before = lane.tokens.at(-1)?.steered ?? false;
  for (const [index, id] of ids.entries()) {
    const steered = covers(spans, first + index);
    lane.tokens.push({ id, logprob: scores[index], offset: offsets[index], text: tokens[index], steered });
  }
  lane.raw += text;
  lane.neuronSet = neuronSet;
  lane.isComplete = ending !== null;
  for (const piece of split(text, lane.tokens.slice(first), before)) {
    appendPiece(lane.text, lane.text.textContent ? piece.text : piece.text.trimStart(), piece.steered);
  }
}

/** Return a new text in one piece for each of its tokens; a text without a token belongs to the token `before`. */
function split(text, tokens, before) {
  if (tokens.length < 2) return [{ text, steered: tokens[0]?.steered ?? before }];
  const characters = [...text]; // offsets count code points
  const starts = tokens.map(({ offset }) => offset - tokens[0].offset);
  return tokens.map(({ steered }, index) => ({ text: characters.slice(starts[index], starts[index + 1]).join(""), steered }));
}

/** Return the fields of the request that steer; without any intervention it must not name a neuron set. */
function interventionsOf(rows, { neurons }) {
  const interventions = rows.map(({ intervention }) => intervention);
  const isSteered = interventions.some((each) => each !== null);
  return { interventions, neurons: isSteered ? neurons : undefined };
}

/** Return the request for the activity of the prompt and the answer of a lane, steered as the answer was. */
function activityBody({ position, raw, intervention, neuronSet }, prompts, { model, neurons }) {
  const prompt = prompts[position];
  const answer = raw ? [{ role: "assistant", content: raw }] : [];
  const text = typeof prompt === "string" ? { prompt, ...(raw ? { completion: raw } : {}) } : { messages: [...prompt, ...answer] };
  return { model, text, intervention, neurons: neuronSet ?? (neurons || undefined) };
}

/** Write the language of each answer below it. */
async function tag(lanes, signal) {
  try {
    for (let start = 0; start < lanes.length; start += MAX_TEXTS) {
      const some = lanes.slice(start, start + MAX_TEXTS);
      const texts = some.map(({ text }) => text.textContent);
      const { data } = await json("v1/languages/identify", { method: "POST", body: { texts }, signal });
      for (const [index, { language, confidence }] of data.entries()) {
        if (language === null) continue;
        const title = `py3langid, confidence ${confidence.toFixed(2)}`;
        some[index].tags.replaceChildren(h("span", { class: "tag", title, "data-language": language }, languageName(language)));
      }
    }
  } catch {
    // the answers are shown without their languages
  }
}

/** Mark how steering changed the log-probabilities of the tokens; an answer that cannot be compared says why. */
async function compare(lanes, inputs, model, signal) {
  const steered = lanes.filter(({ intervention, tokens }) => intervention !== null && tokens.length);
  if (!steered.length) return;
  try {
    await markChanges(steered, inputs, model, signal);
  } catch (error) {
    if (signal.aborted) return;
    for (const { note } of steered) note.append(`; not compared with the unsteered model: ${error.message}`);
  }
}
