/** The view of one sweep: its progress, live from its events, and its results once it has ended. */

import { isDialogOpen, openDialog } from "../dialog.js";
import { errorMessage, h, renew } from "../dom.js";
import { duration, time } from "../format.js";
import { events, json, request } from "../rest.js";
import { untilShown, whileShown } from "../visibility.js";
import { failedCells } from "./failures.js";
import { pace } from "./live.js";
import { organizeButtons } from "./organize.js";
import { resultElements } from "./results.js";
import { ENDED, hasFailures, progress, status } from "./sweep_parts.js";

const ACTIONS = { in_progress: ["pause", "cancel"], validating: ["cancel"], paused: ["resume", "cancel"] };
const TITLES = { pause: "Pause", resume: "Resume", cancel: "Cancel" };
const REFRESH_MS = 1000;
/** Interval at which a sweep is looked at that waits for an engine or for its neurons, of which events say less. */
const STAGE_MS = 3000;

/** Show the view of the sweep `id`; `signal` ends it. */
export async function sweepView(main, { signal, id }) {
  const path = `v1/sweeps/${encodeURIComponent(id)}`;
  const head = h("section", { class: "sweep-head" });
  const speed = h("p", { class: "pace" });
  const results = h("section", { class: "results" });
  const message = h("div");
  const tracked = pace();
  let hasStage = false;
  const spec = h("details", {}, h("summary", {}, "Spec")); // one element, so that it stays open when the head is renewed

  async function refresh() {
    const sweep = await json(path, { signal });
    if (!signal.aborted) document.title = `${sweep.name} – Ampsweep`; // which tells tabs apart
    if (spec.childElementCount === 1) spec.append(h("pre", { tabIndex: 0 }, JSON.stringify(sweep.spec, null, 2)));
    if (!isDialogOpen()) renew(head, ...headElements(sweep, path, { act, organize, signal }), spec);
    hasStage = sweep.stage !== null;
    speed.replaceChildren(ENDED.has(sweep.status) ? "" : tracked.text(sweep));
    return sweep;
  }

  /** Do something to the sweep, and show what it is then. */
  async function change(action) {
    try {
      await action();
      await refresh();
      message.replaceChildren();
    } catch (error) {
      message.replaceChildren(errorMessage(error));
    }
  }

  const send = (name) => request(`${path}/${name}`, { method: "POST", signal });

  /** Pause or resume the sweep; cancel it after a confirmation, because it cannot be resumed. */
  function act(name, sweep) {
    if (name !== "cancel") return change(() => send(name));
    const text = "A cancelled sweep cannot be resumed. Another sweep reuses the cells that are completed.";
    return openDialog({
      title: `Cancel “${sweep.name}”?`,
      content: [h("p", {}, text)],
      button: "Cancel the sweep",
      dismissal: "Go on",
      act: () => send(name),
      ondone: () => change(() => {}),
      signal,
    });
  }

  const ondeleted = () => (location.hash = "sweeps");
  const organize = (sweep) => organizeButtons(sweep, { signal, onchanged: () => change(() => {}), ondeleted });

  main.replaceChildren(h("p", {}, h("a", { href: "#sweeps" }, "All sweeps")), head, speed, message, results);
  const timer = setInterval(() => hasStage && !document.hidden && refresh().catch(() => {}), STAGE_MS); // the events say if it is lost
  signal.addEventListener("abort", () => clearInterval(timer));
  let lastEvent = 0;
  let isLost = false; // whether the message is about a connection that was lost
  while (!signal.aborted) {
    const following = whileShown(signal);
    try {
      const sweep = await refresh();
      if (isLost) message.replaceChildren();
      isLost = false;
      if (ENDED.has(sweep.status)) {
        results.replaceChildren(...(sweep.status === "cancelled" ? [] : await resultElements(path, sweep, signal)));
        return;
      }
      const response = await request(`${path}/events`, { headers: { "Last-Event-ID": String(lastEvent) }, signal: following.signal });
      let refreshed = 0;
      for await (const event of events(response)) {
        lastEvent = Number(event.id);
        tracked.event({ type: event.type, data: JSON.parse(event.data) });
        if (performance.now() - refreshed < REFRESH_MS) continue;
        refreshed = performance.now();
        await refresh();
      }
    } catch (error) {
      if (signal.aborted) return;
      if (following.signal.aborted) {
        await untilShown(signal);
        continue;
      }
      if (!isLost) message.replaceChildren(errorMessage(error)); // it is an alert, which is read out once
      if (error.status === 404) return;
      isLost = true;
    } finally {
      following.abort();
    }
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
  }
}

function headElements(sweep, path, { act, organize, signal }) {
  const buttons = (ACTIONS[sweep.status] ?? []).map((name) =>
    h("button", { type: "button", name, onclick: () => act(name, sweep), "data-key": name }, TITLES[name]),
  );
  const failures = sweep.errors.filter(({ code }) => code === "completed_with_failures");
  return [
    h("h2", {}, sweep.name),
    h("p", {}, status(sweep), progress(sweep), ...buttons),
    facts(sweep, organize),
    sweep.error ? errorMessage({ message: sweep.error }) : "",
    ...failures.map(({ message }) => h("p", { class: "failures", role: "alert" }, message)),
    hasFailures(sweep) && ENDED.has(sweep.status) ? failedCells(path, sweep, signal) : "",
    ...sweep.warnings.map((text) => h("p", { class: "warning" }, text)),
  ];
}

/** Return id, model, tags and times of a sweep, the link that clones it, and what else changes it. */
function facts(sweep, organize) {
  const { id, spec, created_at: created, ended_at: ended, expired_at: expired } = sweep;
  const pairs = [
    ["Id", h("code", {}, id)],
    ["Model", spec.model],
    ["Tags", sweep.tags.length ? sweep.tags.join(", ") : null],
    ["Submitted", time(created)],
    ["Ended", ended === null ? null : `${time(ended)}, after ${duration(ended - created)}`],
    ["Results expired", expired === null ? null : time(expired)],
    ["Samples", sweep.samples.toLocaleString()],
  ];
  const shown = pairs.filter(([, value]) => value !== null);
  return h(
    "div",
    { class: "facts" },
    h("dl", {}, ...shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h(
      "div",
      { class: "row" },
      h("a", { class: "button clone", href: `#new?from=${encodeURIComponent(id)}` }, "Clone into a new sweep"),
      organize(sweep),
    ),
  );
}
