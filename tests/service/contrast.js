// Of every text that is seen and every control: the contrast of its colour with what lies behind it, the least that
// is enough (WCAG 2.2 AA, 1.4.3 and 1.4.11), and which it is.
() => {
  const parse = (text) => text.match(/[\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    if (!node.checkVisibility({ opacityProperty: true }) || node.matches(":disabled, :disabled + *")) continue;
    const style = getComputedStyle(node);
    const name = `${node.tagName} ${node.id} ${node.className} ${node.textContent.slice(0, 30)}`;
    const measure = (what, colour, ground, least) => found.push([ratio(parse(colour), behind(ground)), least, `${what} of ${name}`]);
    if ([...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim())) measure("text", style.color, node, 4.5);
    if (node.placeholder) measure("placeholder", getComputedStyle(node, "::placeholder").color, node, 4.5);
    if (node.matches("input, .button, .chip, .pick span")) measure("border", style.borderTopColor, node.parentElement, 3);
  }
  return found;
};
