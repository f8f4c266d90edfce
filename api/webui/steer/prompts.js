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
  const areas = new WeakMap(); // of messages
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

  /** Change the prompts, show them, and focus the text area of a message, if one is given. */
  function change(action, focused) {
    action();
    draw();
    areas.get(focused)?.focus();
    onchange();
  }

  const title = (index) => (prompts.length > 1 ? `Prompt ${index + 1}` : "Prompt");

  function area(name, label, message) {
    const props = { name, rows: 3, required: true, dir: "auto", value: message.content };
    const control = h("textarea", { ...props, oninput: (event) => (message.content = event.target.value) });
    areas.set(message, control);
    return field(label, control);
  }

  function removeButton(label, items, index) {
    if (items.length === 1) return "";
    const neighbour = [items[index + 1] ?? items[index - 1]].flat().at(-1); // a prompt is a list of messages
    const onclick = () => change(() => items.splice(index, 1), neighbour);
    return h("button", { type: "button", name: "remove", onclick, "aria-label": `Remove ${label}` }, "Remove");
  }

  function text(messages, index) {
    return h("div", { class: "prompt" }, area("prompt", title(index), messages.at(-1)), removeButton(title(index), prompts, index));
  }

  function chat(messages, index) {
    const name = prompts.length > 1 ? `${title(index)}, message` : "Message";
    const turns = messages.map((message, position) => {
      const label = `${name} ${position + 1}`;
      const role = select("role", ROLES, { value: message.role, oninput: (event) => (message.role = event.target.value) });
      role.setAttribute("aria-label", `Role of ${label}`);
      return h("li", {}, field("Role", role), area("message", label, message), removeButton(label, messages, position));
    });
    const onclick = () => {
      const message = { role: next(messages), content: "" };
      change(() => messages.push(message), message);
    };
    const addMessage = h("button", { type: "button", name: "add-message", onclick }, "Add a message");
    return h("div", { class: "prompt" }, h("ol", {}, ...turns), h("div", { class: "row" }, addMessage, removeButton(title(index), prompts, index)));
  }

  const next = (messages) => (messages.at(-1).role === "user" ? "assistant" : "user");

  add.addEventListener("click", () => {
    const messages = ofText("");
    change(() => prompts.push(messages), messages[0]);
  });
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
    const { role, content } = prompts[0].at(-1);
    const isFirst = prompts.length === 1 && content === FIRST && (isText || (prompts[0].length === 1 && role === "user"));
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
    format.value = chats && wanted !== "text" ? "chat" : "text";
    draw();
  }

  /**
   * Return a function that continues the present chats, whatever becomes of them: with the position of one and an answer, it shows
   * the chat as it was asked, the answer and an empty message, in place of the chat or, if it was removed, as another prompt.
   */
  function continuation() {
    const chats = [...prompts];
    const asked = values();
    return (position, answer) => {
      const last = { role: "user", content: "" };
      const turns = [...asked[position].map((each) => ({ ...each })), { role: "assistant", content: answer }, last];
      const isRemoved = !prompts.includes(chats[position]);
      wanted = "chat";
      setModel(supportsChat);
      change(() => (isRemoved ? prompts.push(turns) : (prompts[prompts.indexOf(chats[position])] = turns)), last);
      chats[position] = turns;
    };
  }

  draw();
  return { element, values, isChat, restore, params, setModel, continuation };
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
