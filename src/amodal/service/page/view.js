// What things look like: makes elements, and never parses data as HTML.

import { picture } from "./api.js";
import { write } from "./address.js";

/** An element; strings among the children become text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** What people call a match or an item. */
export function nameOf({ id, attributes }) {
  return typeof attributes.name === "string" && attributes.name ? attributes.name : id;
}

/** What an observation holds: its picture, its words, or that there is nothing to show. */
export function view({ content, modality }, name, { size, signal }) {
  const words = (text, look, title) => el("div", { class: `view ${look}`, title }, el("p", {}, text));
  if (content.kind === "text") return words(content.text, "words");
  if (content.kind !== "picture") return words("Features alone, nothing to show", "words note");
  const image = el("img", { alt: `${modality} of ${name}`, decoding: "async" });
  const frame = el("div", { class: "view" }, image);
  picture(`${content.url}&size=${size}`, signal).then(
    (address) => {
      image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
      image.src = address;
    },
    (error) => {
      if (error.name !== "AbortError") frame.replaceWith(words("This picture cannot be shown", "words note", error.message));
    },
  );
  return frame;
}

/** A result: opens on Enter or a click, and leads to its like in each modality. */
export function card(match, { state, model, index, signal }) {
  const name = nameOf(match);
  const closer = match.matched === null ? "" : `on closer look ${match.matched.toFixed(2)}, `;
  const open = el(
    "a",
    { class: "open", href: write({ ...state, item: match.id, why: false }) },
    view(match, name, { size: 384, signal }),
    el("span", { class: "tag" }, match.modality),
    el("span", { class: "name" }, name),
    el("span", { class: "facts" }, `${closer}score ${match.score.toFixed(2)}, ${distance(match, index)}`),
  );
  const all = el("li", { class: "card" }, open, alike(match, model, "Like this:"));
  if (explains(model, state, [match.modality])) {
    const address = write({ ...state, item: match.id, why: true });
    all.append(el("a", { class: "tag", href: address, "aria-label": `Why ${name} matched` }, "Why?"));
  }
  return all;
}

/** Whether the model can say why one of some modalities answers a search: words ask for a picture, or a picture for words. */
export function explains(model, state, modalities) {
  const answering = { text: "picture", picture: "text" }[state.by];
  return model.explains && modalities.some((name) => model.modalities[name].kind === answering);
}

/** Links to what is like an item, in each modality. */
export function alike(match, model, lead) {
  const links = Object.keys(model.modalities).map((into) =>
    el("a", { href: write({ by: "like", what: match.id, into }), "aria-label": `More like ${nameOf(match)}: ${into}` }, into),
  );
  return el("p", { class: "alike" }, lead, ...links.flatMap((link) => [" ", link]));
}

function distance(match, index) {
  if (index.kind === "binary") return `${match.distance} ${match.distance === 1 ? "bit" : "bits"}`;
  return `distance ${match.distance.toFixed(3)}`;
}

/** An item as a whole: its parts, why it matched if that is told, what is known of it, and its like. What it lacks comes
 * after; see suggestion. */
export function item(shown, { model, reason, signal }) {
  const name = nameOf(shown);
  const facts = Object.entries({ ...(shown.labels.length ? { labels: shown.labels.join(", ") } : {}), ...shown.attributes });
  return [
    el(
      "div",
      { class: "head" },
      el("h2", { id: "item-name" }, name),
      el("button", { type: "button", class: "button", "data-close": true, autofocus: true }, "Close"),
    ),
    el("div", { class: "parts" }, ...shown.parts.map((part) => el("figure", {}, view(part, name, { size: 640, signal }), el("figcaption", {}, part.modality)))),
    ...reason,
    alike(shown, model, "More like this:"),
    el("dl", {}, ...facts.filter(([, value]) => value !== null).flatMap(([field, value]) => [el("dt", {}, field), el("dd", {}, `${value}`)])),
  ];
}

/** The side that an item lacks, as a suggestion: real items that stand in for it. */
export function suggestion(lacked, imagined, { state, model, index, signal }) {
  const how =
    imagined.how === "imagined"
      ? `The model imagines it (trust ${imagined.trust.toFixed(2)} of 1); these real items come nearest to what it imagines.`
      : "This model cannot imagine it; these real items come nearest to what is there.";
  const cards = imagined.matches.map((match) => card(match, { state, model: { ...model, explains: false }, index, signal }));
  return el(
    "section",
    { class: "suggestion" },
    el("h3", {}, `No ${lacked}: a suggestion`),
    el("p", { class: "note" }, imagined.matches.length ? how : "Nothing comes near."),
    el("ul", { class: "cards", "aria-label": `Suggestions for ${lacked}` }, ...cards),
  );
}

/** Chips that narrow a search, a group for each field; `fields` maps a field to the values seen and how often. */
export function chips(fields, state) {
  return [...fields].map(([field, values]) =>
    el(
      "div",
      { role: "group", "aria-label": field, class: "chips" },
      el("span", { class: "note", "aria-hidden": "true" }, field),
      ...[...values.keys()].map((value) =>
        el(
          "button",
          { type: "button", class: "chip", "aria-pressed": `${state.is.get(field)?.includes(value) ?? false}`, "data-field": field, "data-value": value },
          value,
        ),
      ),
    ),
  );
}

/** Two number boxes that bound a field. */
export function range(field, state) {
  const box = (bound) =>
    el("input", { type: "number", step: "any", "aria-label": `${field}, ${bound}`, placeholder: bound, value: state[bound].get(field), "data-field": field, "data-bound": bound });
  return el("div", { role: "group", "aria-label": field, class: "chips" }, el("span", { class: "note", "aria-hidden": "true" }, field), box("from"), box("to"));
}
