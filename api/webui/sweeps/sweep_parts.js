/** Elements that the list of sweeps and the view of one sweep share. */

import { h } from "../dom.js";

/** The statuses of a sweep that has ended. */
export const ENDED = new Set(["completed", "failed", "cancelled"]);

/** Return the status of a sweep as a badge. */
export function status(sweep) {
  const failures = hasFailures(sweep);
  const text = sweep.status.replaceAll("_", " ") + (failures && sweep.status === "completed" ? " with failures" : "");
  return h("span", { class: "status", "data-status": sweep.status, "data-failures": String(failures) }, text);
}

/** Return whether cells or samples of a sweep have failed. */
export const hasFailures = (sweep) => sweep.request_counts.failed > 0 || sweep.failed_samples > 0;

/** Return the progress of a sweep: completed, failed and reused cells out of all cells. */
export function progress(sweep) {
  const { total, completed, failed, reused } = sweep.request_counts;
  const samples = sweep.failed_samples;
  const more = [failed && `${failed} failed`, samples && `${samples} failed samples`, reused && `${reused} reused`]
    .filter(Boolean)
    .join(", ");
  return h(
    "span",
    { class: "progress" },
    h("progress", { max: total, value: completed + failed }),
    `${completed} of ${total}`,
    more ? h("small", {}, more) : null,
  );
}
