/** The REST interface as the page uses it: the key, JSON, errors, streams of events. */

const STORED = "ampsweep-key";

/** The API key: kept for this tab alone, gone when it is closed. */
export const key = {
  get: () => sessionStorage.getItem(STORED) ?? "",
  set: (value) => (value ? sessionStorage.setItem(STORED, value) : sessionStorage.removeItem(STORED)),
};

/** An answer that is no 2xx: the server's own words, the field they are about, the code. */
export class RestError extends Error {
  constructor(status, { message, param = null, code = null }) {
    super(message);
    this.status = status;
    this.param = param;
    this.code = code;
  }
}

/** Ask; return the answer, or throw RestError. `body` is sent as JSON. Paths are below the page's own address. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const own = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  const sent = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(path, {
    method,
    headers: { ...own, ...sent, ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
    cache: "no-store",
  });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  throw new RestError(answer.status, said?.error ?? { message: `the server answered ${answer.status}` });
}

/** Ask for JSON. */
export const json = async (path, options) => (await ask(path, options)).json();

/** All the objects of a list, page after page; `asked` is the query that says which. */
export async function listed(path, asked, { signal }) {
  const query = new URLSearchParams({ ...asked, limit: 100 });
  const found = [];
  for (;;) {
    const page = await json(`${path}?${query}`, { signal });
    found.push(...page.data);
    if (!page.has_more) return found;
    query.set("after", page.last_id);
  }
}

/** The Server-Sent Events of an answer, as `{id, type, data}`; lines that are comments keep the connection alive. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
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
        if (event.data.length) yield { ...event, data: event.data.join("\n") };
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the server ends what nobody reads
  }
}
