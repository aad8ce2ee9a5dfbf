// Talks to the service. Whatever goes wrong is a Problem, whose message is a sentence for people.

const KEY = "amodal-key";
const PATIENCE = 60_000; // milliseconds for an answer
const RETRIES = 3; // of a request that came too soon

export class Problem extends Error {
  constructor(sentence, status = 0) {
    super(sentence);
    this.status = status;
  }
}

export function useKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** The JSON that a GET answers with, or a POST where there is a body: a plain object or a form. */
export async function ask(path, { body, signal } = {}) {
  return (await request(path, body, signal)).json();
}

/** A picture as an address that an <img> can show; it needs the key, which an <img> cannot send. */
export async function picture(path, signal) {
  return URL.createObjectURL(await (await request(path, undefined, signal)).blob());
}

async function request(path, body, signal) {
  const key = sessionStorage.getItem(KEY);
  const headers = new Headers(key ? { Authorization: `Bearer ${key}` } : {});
  if (body && !(body instanceof FormData)) {
    headers.set("Content-Type", "application/json");
    body = JSON.stringify(body);
  }
  const limit = AbortSignal.timeout(PATIENCE);
  const options = { method: body ? "POST" : "GET", headers, body, signal: signal ? AbortSignal.any([signal, limit]) : limit };
  for (let turn = 0; ; turn++) {
    const response = await answer(path, options, limit);
    if (response.ok) return response;
    if (response.status !== 429 || turn === RETRIES) throw await problemOf(response);
    await new Promise((resolve) => setTimeout(resolve, 1000 * (Number(response.headers.get("Retry-After")) || 1)));
  }
}

async function answer(path, options, limit) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (limit.aborted) throw new Problem(`There was no answer within ${PATIENCE / 1000} seconds.`);
    if (error.name === "AbortError") throw error;
    throw new Problem("The service cannot be reached. It may have stopped, or the network is down.");
  }
}

async function problemOf(response) {
  const said = await response.json().catch(() => ({}));
  const what = [said.title ?? `The service answered ${response.status} and gave no reason`, said.detail].filter(Boolean).join(": ");
  const trace = response.status >= 500 && said.request_id ? `Request ${said.request_id}` : "";
  const sentences = [what, trace].filter(Boolean).map((one) => (/[.!?]$/.test(one) ? one : `${one}.`));
  return new Problem(sentences.join(" "), response.status);
}
