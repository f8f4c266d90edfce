/** The client of the REST API: the API key, JSON requests, errors, event streams. */

const STORAGE_KEY = "ampsweep-key";
const UNREACHABLE = "the server cannot be reached; check that it is running";
const CLOSED = "the connection to the server was lost before its answer was complete";

let currentKey = null; // until it is read from the storage of the tab

/** The API key, kept for this tab until it is closed or, where the browser blocks the storage of a page, until it is reloaded. */
export const key = {
  get: () => (currentKey ??= inStorage(() => sessionStorage.getItem(STORAGE_KEY)) ?? ""),
  set(value) {
    currentKey = value;
    inStorage(() => (value ? sessionStorage.setItem(STORAGE_KEY, value) : sessionStorage.removeItem(STORAGE_KEY)));
  },
};

/** Return what `access` to the storage of the tab returns; null if the browser blocks it. */
function inStorage(access) {
  try {
    return access();
  } catch {
    return null; // a SecurityError with some settings of privacy, or a full storage
  }
}

/** A response with an error status: the server's message, the field that it concerns, and the code. */
export class RestError extends Error {
  constructor(status, { message, param = null, code = null }) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
  }
}

/** Throw an error of the network with a message for its reader; the browsers have different ones. */
function lost(error, message) {
  throw error.name === "AbortError" ? error : new Error(message);
}

/**
 * Send a request and return its response, or throw RestError. `body` becomes JSON, `yaml` is text that is sent as it is;
 * `path` is relative to the page.
 */
export async function request(path, { method = "GET", body, yaml, headers = {}, signal } = {}) {
  const authorization = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  const type = yaml === undefined ? body && "application/json" : "application/yaml";
  const contentType = type ? { "Content-Type": type } : {};
  const options = {
    method,
    headers: { ...authorization, ...contentType, ...headers },
    body: yaml ?? (body && JSON.stringify(body)),
    signal,
    cache: "no-store",
  };
  const response = await fetch(path, options).catch((error) => lost(error, UNREACHABLE));
  if (response.ok) return response;
  const content = await response.json().catch(() => null);
  throw new RestError(response.status, content?.error ?? { message: `the server answered ${response.status}` });
}

/** Send a request and return its response as JSON. */
export const json = async (path, options) => (await request(path, options)).json();

/** Yield the objects of a list; each page is fetched when it is needed. `params` are the query parameters. */
export async function* listed(path, params, { signal }) {
  const query = new URLSearchParams({ ...params, limit: 100 });
  for (;;) {
    const page = await json(`${path}?${query}`, { signal });
    yield* page.data;
    if (!page.has_more) return;
    query.set("after", page.last_id);
  }
}

/** Return all objects of a list; see `listed`. */
export async function listAll(path, params, options) {
  const items = [];
  for await (const item of listed(path, params, options)) items.push(item);
  return items;
}

/**
 * Yield the Server-Sent Events of a response as `{id, type, data}`; comment lines are dropped. A stream that ends before an event
 * with the data `last`, if one is given, is an error.
 */
export async function* events(response, { last } = {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => lost(error, CLOSED));
      if (done && last !== undefined) throw new Error(CLOSED);
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = { id: null, type: "message", data: [] };
        for (const line of block.split("\n")) {
          const [, name, text] = /^(id|event|data): ?(.*)$/s.exec(line) ?? [];
          if (name === "data") event.data.push(text);
          else if (name) event[name === "event" ? "type" : "id"] = text;
        }
        const data = event.data.join("\n");
        if (last !== undefined && data === last) return;
        if (event.data.length) yield { ...event, data };
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the server aborts a stream that nobody reads
  }
}
