/** How fast a running sweep goes: cells per minute and time left, and how far the identification of neurons is. */

import { duration, recordingText } from "../format.js";

const WINDOW_MS = 300_000;

/** Return functions that note counts and events of a sweep, and that return what they mean as text. */
export function pace(now = () => performance.now()) {
  const seen = []; // [time, ended cells]
  let finding = null;

  /** Note a sweep as the server returns it, or as an event describes it. */
  function note({ request_counts: { completed, failed, total } }) {
    const ended = completed + failed;
    if (seen.at(-1)?.[1] !== ended) seen.push([now(), ended]);
    while (seen.length > 2 && now() - seen[0][0] > WINDOW_MS) seen.shift();
    return { ended, total };
  }

  /** Note an event; only the latest one about the identification of neurons counts. */
  function event({ type, data }) {
    if (type === "cell.finding_neurons") finding = data;
    else if (type !== "cell.progress") finding = null;
    if (data.request_counts) note(data);
  }

  /** Return what the sweep waits for, how far its neurons are, or the rate and the time left; empty while none is known. */
  function text(sweep) {
    if (sweep.stage) return sweep.stage.progress ? recordingText(sweep.stage.progress) : sweep.stage.text;
    if (finding) return recordingText(finding);
    const { ended, total } = note(sweep);
    const [[since, before]] = seen;
    const seconds = (now() - since) / 1000;
    if (ended <= before || seconds <= 0) return "";
    const rate = (ended - before) / seconds;
    return `${(rate * 60).toFixed(rate * 60 < 10 ? 1 : 0)} cells a minute, about ${duration((total - ended) / rate)} left`;
  }
  return { event, text };
}
