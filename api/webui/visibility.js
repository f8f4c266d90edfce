/**
 * Whether the tab is shown. A browser opens only a few connections to a server, which all of its tabs share: a hidden tab
 * keeps none open to follow something, and asks for nothing again and again.
 */

/** Resolve once the tab is shown, or `signal` is aborted. */
export function untilShown(signal) {
  return new Promise((resolve) => {
    const waiting = new AbortController();
    function look() {
      if (document.hidden && !signal.aborted) return;
      waiting.abort();
      resolve();
    }
    document.addEventListener("visibilitychange", look, { signal: waiting.signal });
    signal.addEventListener("abort", look, { signal: waiting.signal });
    look();
  });
}

/** Return a controller that is aborted once the tab is hidden, or `signal` is aborted; abort it when it is not needed any more. */
export function whileShown(signal) {
  const shown = new AbortController();
  const look = () => (document.hidden || signal.aborted) && shown.abort();
  document.addEventListener("visibilitychange", look, { signal: shown.signal });
  signal.addEventListener("abort", look, { signal: shown.signal });
  look();
  return shown;
}

/** Call a function whenever the tab is shown again, until `signal` is aborted. */
export function onShown(act, signal) {
  document.addEventListener("visibilitychange", () => document.hidden || act(), { signal });
}
