/** A modal dialog with a form, a button that does something, and one that does nothing. */

import { errorMessage, h } from "./dom.js";

/**
 * Open a dialog with a `title`, `content` and a button with the text `button`, which awaits `act`, closes the dialog and calls
 * `ondone`. An error of `act` is shown, and the dialog stays open. `signal` closes it, and so does the button with the text `dismissal`.
 */
export function openDialog({ title, content, button, dismissal = "Cancel", act, ondone, signal }) {
  const message = h("div");
  const confirm = h("button", { type: "submit", class: "main", name: "confirm" }, button);
  const dismiss = h("button", { type: "button", name: "dismiss", onclick: () => element.close() }, dismissal);
  const heading = h("h2", { id: "dialog-title" }, title);
  const form = h("form", {}, heading, ...content, message, h("div", { class: "row" }, confirm, dismiss));
  const element = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    confirm.disabled = true;
    try {
      await act();
      element.close();
      ondone();
    } catch (error) {
      if (!signal.aborted) message.replaceChildren(errorMessage(error));
      confirm.disabled = false;
    }
  });
  element.addEventListener("close", () => element.remove());
  signal.addEventListener("abort", () => element.close());
  document.body.append(element);
  element.showModal();
}

/** Return whether a dialog is open. */
export const isDialogOpen = () => document.querySelector("dialog[open]") !== null;
