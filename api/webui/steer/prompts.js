/** The prompts of the form that steers: texts, or chats of several messages. They are kept in the address. */

import { field, h, select } from "../dom.js";

const FIRST = "In Egypt, the currency is";
const FORMATS = [["chat", "chats, by the template of the model"], ["text", "texts, continued as they are"]];
const ROLES = [["user", "User"], ["assistant", "Assistant"], ["system", "System"]];

/**
 * Return the controls as `element`, and functions that read and change them. `onchange` is called when a prompt or a message
 * was added or removed; what is typed is an event of the element.
 */
export function promptFields({ onchange }) {
  // A prompt is a list of messages. As a text it is the last one, so that nothing is lost when the format is changed.
  let prompts = [ofText(FIRST)];
  let supportsChat = false;
  let wanted = null; // the format of the address; the default is that of the model
  const format = select("format", FORMATS, { value: "text" });
  const formatField = field("Prompts are", format);
  const list = h("div", { class: "prompts" });
  const add = h("button", { type: "button", name: "add-prompt" }, "Add a prompt");
  const element = h("fieldset", { class: "prompts" }, h("legend", {}, "Prompts"), formatField, list, add);

  const isChat = () => format.value === "chat";

  function draw() {
    list.replaceChildren(...prompts.map((messages, index) => (isChat() ? chat(messages, index) : text(messages, index))));
  }

  /** Change the prompts, show them, and focus the last of their text areas if something was added. */
  function change(action, { focus = false } = {}) {
    action();
    draw();
    if (focus) [...list.querySelectorAll("textarea")].at(-1).focus();
    onchange();
  }

  const title = (index) => (prompts.length > 1 ? `Prompt ${index + 1}` : "Prompt");

  function area(name, label, message) {
    const props = { name, rows: 3, required: true, dir: "auto", value: message.content };
    return field(label, h("textarea", { ...props, oninput: (event) => (message.content = event.target.value) }));
  }

  function removeButton(label, items, index) {
    if (items.length === 1) return "";
    const onclick = () => change(() => items.splice(index, 1));
    return h("button", { type: "button", name: "remove", onclick, "aria-label": `Remove ${label}` }, "Remove");
  }

  function text(messages, index) {
    return h("div", { class: "prompt" }, area("prompt", title(index), messages.at(-1)), removeButton(title(index), prompts, index));
  }

  function chat(messages, index) {
    const name = prompts.length > 1 ? `${title(index)}, message` : "Message";
    const turns = messages.map((message, position) => {
      const label = `${name} ${position + 1}`;
      const role = select("role", ROLES, { value: message.role, onchange: (event) => (message.role = event.target.value) });
      role.setAttribute("aria-label", `Role of ${label}`);
      return h("li", {}, field("Role", role), area("message", label, message), removeButton(label, messages, position));
    });
    const onclick = () => change(() => messages.push({ role: next(messages), content: "" }), { focus: true });
    const addMessage = h("button", { type: "button", name: "add-message", onclick }, "Add a message");
    return h("div", { class: "prompt" }, h("ol", {}, ...turns), h("div", { class: "row" }, addMessage, removeButton(title(index), prompts, index)));
  }

  const next = (messages) => (messages.at(-1).role === "user" ? "assistant" : "user");

  add.addEventListener("click", () => change(() => prompts.push(ofText("")), { focus: !isChat() }));
  format.addEventListener("change", () => change(() => (wanted = format.value)));

  /** Return the texts, or the messages of the chats. */
  const values = () => prompts.map((messages) => (isChat() ? messages.map((each) => ({ ...each })) : messages.at(-1).content));

  /** Show the prompts of an address. A link that names no format has texts. */
  function restore(params) {
    const one = params.get("prompt");
    const read = parsed(params.get("prompts")) ?? (one === null ? null : [ofText(one)]);
    wanted = params.get("format") ?? (read && "text");
    if (read) prompts = read;
    setModel(supportsChat);
  }

  /** Return the parameters of the address that `restore` reads; empty ones are left out. */
  function params() {
    const contents = values();
    const isText = !isChat() && contents.length === 1;
    const isFirst = prompts.length === 1 && (isText || prompts[0].length === 1) && prompts[0].at(-1).content === FIRST;
    return {
      prompt: isText && !isFirst ? contents[0] : "",
      prompts: isText || isFirst ? "" : JSON.stringify(contents),
      format: supportsChat ? format.value : "",
    };
  }

  /** Offer chats if the model has a template for them. */
  function setModel(chats) {
    supportsChat = chats;
    formatField.hidden = !chats;
    format.value = chats ? wanted ?? "chat" : "text";
    draw();
  }

  /** Append an answer and an empty message to a chat, so that it can be continued. */
  function continueFrom(index, answer) {
    const turns = [{ role: "assistant", content: answer }, { role: "user", content: "" }];
    change(() => prompts[index].push(...turns));
    list.children[index].querySelector("li:last-child textarea").focus();
  }

  draw();
  return { element, values, isChat, restore, params, setModel, continueFrom };
}

const ofText = (content) => [{ role: "user", content }];

/** Return the prompts in a parameter of the address; null if there are none, or if they cannot be read. */
function parsed(text) {
  try {
    const prompts = JSON.parse(text ?? "null");
    const isMessage = (each) => ROLES.some(([role]) => role === each?.role) && typeof each.content === "string";
    const isPrompt = (each) => typeof each === "string" || (each.length > 0 && each.every(isMessage));
    if (!prompts.length || !prompts.every(isPrompt)) return null;
    return prompts.map((each) => (typeof each === "string" ? ofText(each) : each.map(({ role, content }) => ({ role, content }))));
  } catch {
    return null;
  }
}
