/** Prompts as tokens: chats by the template of the model, and texts whose tokens are scored again. */

import { json } from "../rest.js";

const TITLE_LENGTH = 500;

/** Return what a prompt is shown as: the beginning of a text, or of the last question of a chat. */
export function titleOf(prompt) {
  const text = typeof prompt === "string" ? prompt : (prompt.findLast(({ role }) => role === "user") ?? prompt.at(-1)).content;
  return text.length > TITLE_LENGTH ? `${text.slice(0, TITLE_LENGTH)}…` : text;
}

/** Return the inputs of a completion for prompts, which are texts or lists of messages: a text, or token ids of a chat. */
export function encode(prompts, model, signal) {
  return Promise.all(prompts.map((prompt) => (typeof prompt === "string" ? prompt : tokens({ model, messages: prompt }, signal))));
}

/** Return the token ids of each input. */
export function withIds(inputs, model, signal) {
  return Promise.all(inputs.map((input) => (typeof input === "string" ? tokens({ model, prompt: input }, signal) : input)));
}

const tokens = async (body, signal) => (await json("tokenize", { method: "POST", body, signal })).tokens;
