// The page: brings what is shown in line with the address, and turns what people do into addresses.

import { Problem, ask, picture, useKey } from "./api.js";
import { bounded, read, toggled, where, write } from "./address.js";
import { card, chips, el, explains, item, nameOf, range, suggestion, view } from "./view.js";
import { loaded, why } from "./why.js";

const PAGE = 24; // results at a time
const KEPT = 20; // answers kept for the back button
const MOST_CHIPS = 12; // of one field

const at = (id) => document.getElementById(id);
const model = {}; // what /v1/model says
const index = {}; // what /v1/index says
const pictures = new Map(); // name to file: pictures searched by, as long as the tab lives
const answers = new Map(); // address of a search to its results so far
let seen = { base: "", results: 0, fields: new Map() }; // values that the results of one query had, for the chips
let current = ""; // address of the search that is shown
let searching = new AbortController();
let opening = new AbortController();

// ---- from the address to the page

async function start() {
  const [theModel, theIndex] = await Promise.all([ask("/v1/model"), ask("/v1/index")]);
  Object.assign(model, theModel);
  Object.assign(index, theIndex);
  const kinds = Object.values(model.modalities).map((one) => one.kind);
  const size = index.bits ? `${index.bits}-bit codes` : `${index.dim} numbers each`;
  at("about").textContent = `${model.name}, ${size}, ${index.entries.toLocaleString("en")} entries`;
  at("words").disabled = !kinds.includes("text");
  at("words").placeholder = kinds.includes("text") ? "Describe what you look for" : "This model reads no words";
  at("file").disabled = !kinds.includes("picture");
  const choice = (value, text) => el("label", { class: "pick" }, el("input", { type: "radio", name: "into", value }), el("span", {}, text));
  at("into").append(choice("", "anything"), ...Object.keys(model.modalities).map((name) => choice(name, name)));
  at("into").hidden = false;
  at("closer").hidden = !model.explains;
  at("filters").open = matchMedia("(min-width: 40rem)").matches;
  await show();
}

async function show() {
  if (!model.modalities) return;
  const state = read(location.search);
  const search = write({ ...state, item: "" });
  if (search !== current) await attempt(() => showSearch(state, search));
  await attempt(() => showItem(state));
}

async function showSearch(state, search) {
  searching.abort();
  searching = new AbortController();
  const { signal } = searching;
  current = search;
  at("key").hidden = true;
  at("problem").replaceChildren();
  showQuestion(state, signal);
  if (!answers.has(search) && state.by) {
    at("results").setAttribute("aria-busy", "true");
    at("count").textContent = "Searching …";
    at("more").hidden = true;
    try {
      remember(search, await ask("/v1/search", { body: question(state), signal }));
    } catch (error) {
      if (error.name === "AbortError") return;
      current = "";
      at("results").replaceChildren();
      showFilters(state);
      throw error;
    } finally {
      if (!signal.aborted) at("results").removeAttribute("aria-busy");
    }
  }
  at("results").replaceChildren();
  showAnswer(state, answers.get(search), 0, signal);
  if (document.activeElement === document.body && state.by) at("count").focus({ preventScroll: true });
}

/** The form, as the address says it. */
function showQuestion(state, signal) {
  at("words").value = state.by === "text" ? state.what : "";
  for (const choice of at("into").querySelectorAll("input")) choice.checked = choice.value === state.into;
  at("closer").firstChild.checked = state.closer;
  document.title = state.by ? `${told(state)} · amodal` : "amodal";
  const query = at("query");
  query.hidden = !["like", "picture"].includes(state.by);
  query.replaceChildren();
  if (query.hidden) return;
  const remove = el("a", { class: "button", href: write({ ...state, by: "", what: "" }) }, "Remove");
  const thumb = el("div", { class: "thumb" });
  query.append(thumb, el("p", {}, told(state)), remove);
  const file = pictures.get(state.what);
  if (state.by === "picture" && file) {
    const address = URL.createObjectURL(file);
    const image = el("img", { src: address, alt: "the picture searched by" });
    image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    thumb.append(image);
  } else if (state.by === "like") {
    // if this fails, so does the search, which tells why
    ask(`/v1/items/${encodeURIComponent(state.what)}`, { signal }).then((shown) => {
      query.querySelector("p").textContent = `What is like ${nameOf(shown)}`;
      thumb.append(view(shown.parts[0], nameOf(shown), { size: 128, signal }));
    }, () => {});
  }
}

/** A search in a few words. */
function told(state) {
  return { text: `“${state.what}”`, like: `what is like ${state.what}`, picture: `the picture ${state.what}` }[state.by];
}

/** The body of a search. */
function question(state) {
  const rerank = looksCloser(state) || undefined;
  const asked = { k: PAGE, into: state.into || undefined, where: where(state, index.attributes), rerank };
  if (state.by === "text") return { by: "text", text: state.what, ...asked };
  if (state.by === "like") return { by: "id", id: state.what, ...asked };
  const form = new FormData();
  form.set("request", JSON.stringify({ by: "picture", ...asked }));
  form.set("picture", file(state));
  return form;
}

/** The picture searched by. */
function file(state) {
  if (!pictures.has(state.what)) throw new Problem(`The picture ${state.what} was known only to the tab that searched by it. Choose it once more.`);
  return pictures.get(state.what);
}

/** Whether the best answers are put in order by a matcher, where the model has one. */
function looksCloser(state) {
  return state.closer && model.explains;
}

function remember(search, { matches, next, notes }) {
  const before = answers.get(search) ?? { matches: [], notes };
  answers.delete(search);
  answers.set(search, { matches: [...before.matches, ...matches], next, notes: before.notes });
  if (answers.size > KEPT) answers.delete(answers.keys().next().value);
}

/** The results from one on; those before are there already. */
function showAnswer(state, answer, from, signal) {
  at("welcome").hidden = Boolean(state.by);
  at("more").hidden = !answer?.next;
  if (!state.by) {
    at("count").textContent = "Where to begin";
    showWelcome();
  } else {
    const { length } = answer.matches;
    const results = `${answer.next ? "The first " : ""}${length || "No"} ${length === 1 ? "result" : "results"}`;
    const line = `${results} for ${told(state)}${looksCloser(state) ? ", looked at closely" : ""}`;
    at("count").textContent = [line, ...answer.notes].join("; ");
    at("results").append(...answer.matches.slice(from).map((match) => card(match, { state, model, index, signal })));
    learn(state, answer.matches);
  }
  rove(at("results").children[from]);
  showFilters(state);
}

function showWelcome() {
  const ways = [at("words").disabled ? "" : "by words", at("file").disabled ? "" : "by a picture dropped anywhere on this page"].filter(Boolean);
  const how = ways.length ? `Search ${ways.join(", or ")}.` : "This model reads bare features. To search by an item, add ?like=ID to the address.";
  const what = `What is nearest is found, in ${Object.keys(model.modalities).join(" or ")}, also of items that lack a side.`;
  at("welcome").replaceChildren(el("p", { class: "lead" }, `${how} ${what}`));
  if (model.classes.length && !at("words").disabled) {
    const links = model.classes.slice(0, 12).map((name) => el("a", { class: "chip", href: write({ by: "text", what: name }) }, name));
    at("welcome").append(el("p", { class: "chips" }, el("span", { class: "note" }, "Try"), ...links));
  }
}

// ---- filters

/** Take note of the values that results have; those of another query are forgotten. */
function learn(state, matches) {
  const base = `${state.by}:${state.what}:${state.into}`;
  if (seen.base !== base) seen = { base, results: 0, fields: new Map() };
  seen.results = Math.max(seen.results, matches.length);
  for (const { labels, attributes } of matches) {
    for (const [field, said] of Object.entries({ labels, ...attributes })) {
      for (const value of Array.isArray(said) ? said : [said]) {
        if (typeof value !== "string" && typeof value !== "boolean") continue;
        if (!seen.fields.has(field)) seen.fields.set(field, new Set());
        seen.fields.get(field).add(`${value}`);
      }
    }
  }
}

/** Chips of the fields that divide what was found, and of what is filtered by already. */
function showFilters(state) {
  const focused = document.activeElement?.dataset ?? {};
  const fields = new Map();
  for (const [field, values] of seen.fields) if (values.size > 1 && values.size <= seen.results / 2) fields.set(field, new Set([...values].slice(0, MOST_CHIPS)));
  for (const [field, values] of state.is) fields.set(field, new Set([...(fields.get(field) ?? []), ...values]));
  const numbers = Object.keys(index.attributes).filter((field) => ["int", "float"].includes(index.attributes[field]));
  const box = at("filters").querySelector("div");
  box.replaceChildren(...chips(fields, state), ...numbers.map((field) => range(field, state)));
  const used = [...state.is.values()].flat().length + state.from.size + state.to.size;
  at("filters").querySelector("summary").textContent = used ? `Filters (${used})` : "Filters";
  at("filters").hidden = !state.by || !box.childElementCount;
  // the control that was just used was made anew
  const same = (one) => one.dataset.field === focused.field && one.dataset.value === focused.value && one.dataset.bound === focused.bound;
  if (focused.field) [...box.querySelectorAll("button, input")].find(same)?.focus();
}

// ---- an item

async function showItem(state) {
  const dialog = at("item");
  opening.abort();
  if (!state.item) {
    dialog.close();
    return;
  }
  opening = new AbortController();
  const { signal } = opening;
  const address = `/v1/items/${encodeURIComponent(state.item)}`;
  let shown;
  try {
    shown = await ask(address, { signal });
  } catch (error) {
    if (error.name === "AbortError") return;
    dialog.close();
    throw error;
  }
  const reason = explains(model, state, shown.parts.map((part) => part.modality)) ? [reasonFor(shown, state, signal)] : [];
  dialog.replaceChildren(...item(shown, { model, reason, signal }));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  for (const lacked of shown.lacks) {
    const place = el("p", { class: "note", role: "status" }, `No ${lacked}. Looking for a suggestion …`);
    dialog.append(place);
    ask(`${address}?imagine=${encodeURIComponent(lacked)}&k=3`, { signal }).then(
      ({ imagined }) => place.replaceWith(suggestion(lacked, imagined, { state, model, index, signal })),
      (error) => {
        if (error.name !== "AbortError") place.textContent = `No ${lacked}, and no suggestion. ${error.message}`;
      },
    );
  }
}

/** Why an item matched: told at once if the address says so, else on demand. */
function reasonFor(shown, state, signal) {
  const place = el("p", { class: "note", role: "status" });
  const show = el("button", { type: "button", class: "button" }, "Why did it match?");
  const section = el("section", { class: "why", "aria-label": "Why it matched" }, show, place);
  const tell = async () => {
    show.disabled = true;
    place.textContent = "Looking closer …";
    try {
      const query = state.by === "text" ? { by: "text", text: state.what } : { by: "picture", picture: await base64(file(state)) };
      const explained = await ask("/v1/explain", { body: { query, id: shown.id }, signal });
      const part = shown.parts.find((one) => one.modality === explained.regions);
      const source = state.by === "text" ? await picture(`${part.content.url}&size=640`, signal) : URL.createObjectURL(file(state));
      section.replaceChildren(el("h3", {}, "Why it matched"), ...why(explained, await loaded(source)));
    } catch (error) {
      if (error.name === "AbortError") return;
      place.textContent = `It cannot be told. ${error.message}`;
      show.disabled = false;
    }
  };
  show.addEventListener("click", async () => {
    await tell();
    section.querySelector("[aria-pressed=true]")?.focus();
  });
  if (state.why) tell().then(() => section.scrollIntoView({ block: "nearest" }));
  return section;
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(new Problem(`The picture ${file.name} cannot be read.`)));
    reader.readAsDataURL(file);
  });
}

function closeItem() {
  if (history.state?.opened) history.back();
  else go({ ...read(location.search), item: "" }, { replace: true });
}

// ---- from what people do to the address

function go(state, { replace = false, fresh = false } = {}) {
  const address = write(state);
  replace ||= address === location.search; // Enter in a filter asks again what was just asked
  const opened = Boolean(state.item) && (!replace || history.state?.opened === true);
  if (fresh) {
    answers.delete(address);
    current = "";
  }
  history[replace ? "replaceState" : "pushState"]({ opened }, "", address);
  if (write({ ...state, item: "" }) !== current) scrollTo(0, 0);
  return show();
}

/** Run what may fail, and tell of it; a key is asked for where one is needed. */
async function attempt(work) {
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) throw error;
    if (!at("results").childElementCount) at("count").textContent = "No answer yet";
    if (error.status === 401) {
      at("key").hidden = false;
      at("key-why").textContent = error.message;
      at("key-field").focus();
      return;
    }
    const again = el("button", { type: "button", class: "button" }, "Try again");
    again.addEventListener("click", retry);
    at("problem").replaceChildren(el("p", {}, error.message), again);
  }
}

function retry() {
  at("problem").replaceChildren();
  at("key").hidden = true;
  current = "";
  return model.modalities ? show() : attempt(start);
}

/** Search by the first picture among files. */
function byPicture(files) {
  const file = [...files].find((one) => one.type.startsWith("image/"));
  if (at("file").disabled) return;
  if (!file) {
    at("problem").replaceChildren(el("p", {}, `${files[0]?.name ?? "What was given"} is no picture. Give a PNG, JPEG or WebP file.`));
    return;
  }
  let name = file.name;
  for (let n = 2; pictures.has(name); n++) name = `${file.name} (${n})`;
  pictures.set(name, file);
  go({ ...read(location.search), by: "picture", what: name, item: "" });
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const what = at("words").value.trim();
  if (what) go({ ...read(location.search), by: "text", what, item: "" }, { fresh: true });
});
at("into").addEventListener("change", (event) => go({ ...read(location.search), into: event.target.value }));
at("closer").addEventListener("change", (event) => go({ ...read(location.search), closer: event.target.checked }));
at("filters").addEventListener("click", ({ target }) => {
  if (target.dataset.value !== undefined) go(toggled(read(location.search), target.dataset.field, target.dataset.value));
});
at("filters").addEventListener("change", ({ target }) => go(bounded(read(location.search), target.dataset.bound, target.dataset.field, target.value)));
at("file").addEventListener("change", ({ target }) => {
  byPicture(target.files);
  target.value = "";
});
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key-field").value.trim());
  at("key-field").value = "";
  retry();
});
at("more").addEventListener("click", () =>
  attempt(async () => {
    const [search, { signal }] = [current, searching];
    const { matches, next } = answers.get(search);
    at("more").disabled = true;
    try {
      remember(search, await ask("/v1/search", { body: { by: "cursor", cursor: next, k: PAGE }, signal }));
    } finally {
      at("more").disabled = false;
    }
    showAnswer(read(location.search), answers.get(search), matches.length, signal);
    at("results").children[matches.length]?.querySelector("a").focus({ preventScroll: true });
  }),
);
at("item").addEventListener("cancel", (event) => {
  event.preventDefault();
  closeItem();
});
at("item").addEventListener("click", ({ target }) => {
  if (target === at("item") || "close" in target.dataset) closeItem();
});
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='?']");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const state = read(link.search);
  // one step back closes an item, however many were looked at
  go(state, { replace: Boolean(state.item && read(location.search).item) });
});
addEventListener("popstate", show);

// ---- pictures dropped and pasted

let within = 0; // elements entered and not left by what is dragged
const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (carriesFile(event)) at("drop").hidden = ++within === 0;
});
addEventListener("dragleave", (event) => {
  if (carriesFile(event)) at("drop").hidden = --within <= 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  within = 0;
  at("drop").hidden = true;
  if (carriesFile(event)) byPicture(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) byPicture(event.clipboardData.files);
});

// ---- keys

/** Let Tab reach one result only, and what belongs to it; arrows move on. */
function rove(one) {
  if (!one) return;
  for (const other of at("results").children) for (const link of other.querySelectorAll("a")) link.tabIndex = other === one ? 0 : -1;
}

/** The place that an arrow key leads to from a place among cards. */
function beside(cards, place, key) {
  const tops = cards.map((one) => one.offsetTop);
  const columns = Math.max(1, tops.filter((top) => top === tops[0]).length);
  return { ArrowRight: place + 1, ArrowLeft: place - 1, ArrowDown: place + columns, ArrowUp: place - columns, Home: 0, End: cards.length - 1 }[key];
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("item").open) return;
  const typing = ["INPUT", "TEXTAREA"].includes(event.target.tagName);
  const cards = [...at("results").children];
  const place = cards.indexOf(event.target.closest?.("#results > li"));
  if (event.key === "/" && !typing) {
    event.preventDefault();
    at("words").select();
  } else if (event.key === "ArrowDown" && event.target === at("words") && cards.length) {
    event.preventDefault();
    cards[0].querySelector("a").focus();
  } else if (place >= 0) {
    if (event.key === "Escape") return at("words").select();
    const next = beside(cards, place, event.key);
    if (next === undefined) return;
    event.preventDefault();
    cards[next]?.querySelector("a").focus();
  }
});
at("results").addEventListener("focusin", ({ target }) => rove(target.closest("li")));

attempt(start);
