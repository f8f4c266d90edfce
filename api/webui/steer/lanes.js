/** Continues one prompt with several interventions in one streamed request, and shows each answer in its lane. */

import { errorMessage, h, languageName } from "../dom.js";
import { events, json, request } from "../rest.js";
import { activity } from "./activity.js";

/** They estimate the height of an answer, so that the page does not jump while it is generated. */
const CHARACTERS_PER_TOKEN = 4;
const CHARACTERS_PER_LINE = 36;

/**
 * Return the cards of the lanes, and a promise that is resolved when all have ended.
 *
 * `variants` are lanes: `title`, `language` (null without steering) and `intervention` (null without one). `body` is the
 * request without interventions; `signal` aborts it.
 */
export function startLanes(variants, body, signal) {
  const lanes = variants.map((variant) => lane(variant, body.max_tokens));
  return { cards: lanes.map(({ card }) => card), ended: run(lanes, body, signal) };
}

function lane({ title, language, intervention }, tokens) {
  const text = h("p", { class: "text", dir: "auto", lang: language ?? "" });
  text.style.setProperty("--lines", String(Math.ceil((tokens * CHARACTERS_PER_TOKEN) / CHARACTERS_PER_LINE)));
  const tags = h("p", { class: "tags" });
  const note = h("footer", {}, "…");
  const card = h(
    "article",
    { class: language === null ? "lane baseline" : "lane", "data-language": language ?? "" },
    h("h2", {}, title),
    text,
    tags,
    note,
  );
  return { card, text, tags, note, intervention, answer: "", tokens: 0, neuronSet: null };
}

/** Run the lanes in one request. A lane whose intervention is rejected shows why; the request is repeated without it. */
async function run(lanes, body, signal) {
  let asked = lanes;
  const started = performance.now();
  while (asked.length) {
    for (const each of asked) restart(each);
    try {
      await stream(asked, body, signal);
      const seconds = (performance.now() - started) / 1000;
      for (const each of asked) {
        end(each, `${each.tokens} tokens in ${seconds.toFixed(1)} s${steeredBy(each)}`);
        each.note.after(activity(activityBody(each, body), signal));
      }
      await tag(asked, signal);
      return;
    } catch (error) {
      const [, rejected] = /^interventions\.(\d+)/.exec(error.param ?? "") ?? [];
      const failed = signal.aborted || rejected === undefined ? asked : [asked[rejected]];
      for (const each of failed) end(each, signal.aborted ? "stopped" : errorMessage(error));
      asked = asked.filter((each) => !failed.includes(each));
    }
  }
}

function restart(lane) {
  lane.text.replaceChildren();
  lane.answer = "";
  lane.tokens = 0;
}

const steeredBy = ({ neuronSet }) => (neuronSet === null ? "" : `, steered by ${neuronSet}`);

function end({ card, note }, content) {
  note.replaceChildren(content);
  card.toggleAttribute("data-ended", true);
}

async function stream(lanes, body, signal) {
  const response = await request("v1/completions", {
    method: "POST",
    signal,
    body: { ...body, ...interventionsOf(lanes, body), stream: true, logprobs: 0 },
  });
  for await (const { data } of events(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw Object.assign(new Error(chunk.error.message), { param: chunk.error.param });
    for (const choice of chunk.choices) {
      const lane = lanes[choice.index];
      lane.answer += choice.text;
      lane.text.append(lane.text.textContent ? choice.text : choice.text.trimStart());
      lane.tokens += choice.logprobs?.token_ids.length ?? 0;
      lane.neuronSet = chunk.neuron_set;
    }
  }
}

/** Return the fields of the request that steer; without any intervention it must not name a neuron set. */
function interventionsOf(lanes, { neurons }) {
  const interventions = lanes.map(({ intervention }) => intervention);
  const isSteered = interventions.some((each) => each !== null);
  return { interventions, neurons: isSteered ? neurons : undefined };
}

/** Return the request for the activity of the prompt and the answer of a lane, steered as the answer was. */
function activityBody({ answer, intervention, neuronSet }, { model, prompt, neurons }) {
  const completion = answer ? { completion: answer } : {};
  return { model, text: { prompt, ...completion }, intervention, neurons: neuronSet ?? (neurons || undefined) };
}

/** Write the language of each answer below it. */
async function tag(lanes, signal) {
  const texts = lanes.map(({ text }) => text.textContent);
  try {
    const { data } = await json("v1/languages/identify", { method: "POST", body: { texts }, signal });
    for (const [index, { language, confidence }] of data.entries()) {
      if (language === null) continue;
      const title = `py3langid, confidence ${confidence.toFixed(2)}`;
      lanes[index].tags.replaceChildren(h("span", { class: "tag", title, "data-language": language }, languageName(language)));
    }
  } catch {
    // the answers are shown without their languages
  }
}
