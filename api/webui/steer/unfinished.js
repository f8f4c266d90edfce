/** The neuron sets of a model that are being identified for a sweep or for another user, and how far they are. */

import { h } from "../dom.js";
import { recordingText } from "../format.js";
import { completedSets, listSets } from "../new_sweep/offers.js";
import { untilShown } from "../visibility.js";

const POLL_MS = 3000;

/**
 * Return the `element` that shows the sets, and `watch(model, listed)`, which follows those of a model from its sets as they are
 * listed now, as long as one is being identified or there is no completed one. `oncompleted` is called when one is completed. The ids
 * in `own` are shown elsewhere. `signal` ends it.
 */
export function unfinishedSets({ own, oncompleted, signal }) {
  const element = h("div");
  let latest = 0;

  function show(sets) {
    const texts = inProgress(sets).filter(({ id }) => !own.has(id)).map(progressText);
    if (texts.join() !== [...element.children].map(({ textContent }) => textContent).join()) {
      element.replaceChildren(...texts.map((text) => h("p", { class: "note" }, text)));
    }
  }

  async function watch(model, listed) {
    const mine = ++latest;
    const known = new Set(completedSets(listed).map(({ id }) => id));
    let sets = listed;
    show(sets);
    while (inProgress(sets).length || !known.size) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      await untilShown(signal);
      if (mine !== latest || signal.aborted) return;
      sets = await listSets(model, signal).catch(() => sets); // the server may be back soon
      if (mine !== latest || signal.aborted) return;
      show(sets);
      if (completedSets(sets).some(({ id }) => !known.has(id))) {
        oncompleted();
        return;
      }
    }
  }
  return { element, watch };
}

const inProgress = (sets) => sets.filter(({ status }) => status === "in_progress");

function progressText({ progress }) {
  const text = progress ? recordingText(progress) : "its recording has not begun";
  return `A neuron set is being identified for a sweep or another user: ${text}. It is listed once it is completed.`;
}
