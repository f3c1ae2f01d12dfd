"""Whether texts stand out from their ground: a program that runs in a page."""

# [text, contrast, colours] of each visible text with less than 4.5:1. A text's ground is what its
# ancestors paint, the nearest on top; half-transparent layers and texts are blended.
FAINT = """() => {
  const parse = (text) => {
    const found = /^rgba?\\(([\\d.]+), ([\\d.]+), ([\\d.]+)(?:, ([\\d.]+))?\\)$/.exec(text);
    if (!found) throw new Error(`colour ${text}`);
    return found.slice(1).map((part) => (part === undefined ? 1 : Number(part)));
  };
  const over = (top, below) => below.map((part, i) => top[i] * top[3] + part * (1 - top[3]));
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  let seen = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, element = text.parentElement;
    const drawn = element.closest("svg") !== null;
    if (!text.data.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (["SCRIPT", "STYLE"].includes(element.tagName) || element.closest("svg title")) continue;
    const box = element.getBoundingClientRect();
    if (box.width <= 1 || box.height <= 1) continue;
    seen += 1;
    const style = getComputedStyle(element);
    const chain = [];
    for (let at = element; at; at = at.parentElement) chain.unshift(getComputedStyle(at));
    let ground = [255, 255, 255];
    let opacity = 1;
    for (const part of chain) {
      opacity *= Number(part.opacity);
      ground = over(parse(part.backgroundColor), ground);
    }
    const colour = parse(drawn ? style.fill : style.color);
    colour[3] *= opacity * (drawn ? Number(style.fillOpacity) : 1);
    const [a, b] = [light(over(colour, ground)), light(ground)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push([text.data.trim(), contrast, `${colour} on ${ground}`]);
  }
  return { faint, seen };
}"""
