// Why an item matched: its words, and the picture as the chosen one of them sees it.

import { el } from "./view.js";

const SIDE = 640; // pixels of the picture's longer side
const DARK = 0.3; // brightness of what is not looked at

/** A picture from an address that is used once. */
export async function loaded(address) {
  const image = new Image();
  image.src = address;
  await image.decode().finally(() => URL.revokeObjectURL(address));
  return image;
}

/** Words to choose from, the picture, bright where the chosen one looks, and the same in a sentence; at first of the word to
 * which looking there matters most. */
export function why({ words, boxes }, image) {
  const scale = SIDE / Math.max(image.naturalWidth, image.naturalHeight);
  const canvas = el("canvas", { role: "img", width: Math.round(image.naturalWidth * scale), height: Math.round(image.naturalHeight * scale) });
  const said = el("p", { role: "status", class: "note" });
  const chips = words.map(({ word }) => el("button", { type: "button", class: "chip" }, word));
  const choose = (chosen) => {
    const { word, attention, similarity, effect } = words[chosen];
    chips.forEach((chip, n) => chip.setAttribute("aria-pressed", `${n === chosen}`));
    paint(canvas, image, boxes, attention);
    const where = placeOf(boxes[most(attention)]);
    canvas.setAttribute("aria-label", `The picture as “${word}” sees it, bright at ${where}`);
    const gain = `${effect < 0 ? "−" : "+"}${Math.abs(effect).toFixed(2)}`;
    said.textContent = `“${word}” looks mostly at ${where}. It agrees ${similarity.toFixed(2)} with what it sees; looking there, and not everywhere alike, adds ${gain}.`;
  };
  chips.forEach((chip, n) => chip.addEventListener("click", () => choose(n)));
  choose(most(words.map(({ effect }) => effect)));
  return [el("div", { role: "group", "aria-label": "Words", class: "chips" }, ...chips), canvas, said];
}

/** Regions as bright as they are looked at; the one with the most is as it was. */
function paint(canvas, image, boxes, attention) {
  const { width, height } = canvas;
  const light = new OffscreenCanvas(width, height);
  const pen = light.getContext("2d");
  boxes.forEach(([left, top, right, bottom], n) => {
    pen.globalAlpha = attention[n] / attention[most(attention)];
    pen.fillRect(left * width, top * height, (right - left) * width, (bottom - top) * height);
  });
  const draw = canvas.getContext("2d");
  draw.clearRect(0, 0, width, height);
  draw.drawImage(image, 0, 0, width, height);
  draw.globalCompositeOperation = "destination-in";
  draw.filter = `blur(${((boxes[0][2] - boxes[0][0]) * width) / 4}px)`; // regions have no edges that a network would know of
  draw.drawImage(light, 0, 0);
  draw.globalCompositeOperation = "destination-over";
  draw.filter = `brightness(${DARK})`;
  draw.drawImage(image, 0, 0, width, height);
  draw.globalCompositeOperation = "source-over";
  draw.filter = "none";
}

function most(values) {
  return values.indexOf(Math.max(...values));
}

/** Where a region lies, in words. */
function placeOf([left, top, right, bottom]) {
  const third = (value, low, high) => (value < 1 / 3 ? low : value > 2 / 3 ? high : "");
  const named = [third((top + bottom) / 2, "top", "bottom"), third((left + right) / 2, "left", "right")].filter(Boolean);
  return `the ${named.join(" ") || "middle"}`;
}
