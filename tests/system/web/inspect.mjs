// Run inside the page: what a person who cannot see well, or uses no mouse, would stumble over.

// Things that can be used and have no name.
export function unnamed() {
  const found = [];
  for (const element of document.querySelectorAll("button, a[href], input, select, [role=img], dialog")) {
    if (!element.checkVisibility()) continue;
    const label = element.labels?.[0]?.textContent ?? "";
    const name = [element.getAttribute("aria-label"), label, element.textContent, element.getAttribute("title"),
                  element.getAttribute("placeholder")].find((text) => text && text.trim());
    if (!name) found.push(element.outerHTML.slice(0, 120));
  }
  return found;
}

// Text whose contrast with what is behind it is below WCAG AA: 4.5 to 1, or 3 to 1 when it is large.
export function weakContrast() {
  const parse = (color) => {
    const parts = color.match(/[\d.]+/g).map(Number);
    return color.startsWith("color(srgb") ? [parts[0] * 255, parts[1] * 255, parts[2] * 255, parts[3] ?? 1]
      : [parts[0], parts[1], parts[2], parts[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((value, i) => value * top[3] + below[i] * (1 - top[3]));
  const luminance = (color) => {
    const [r, g, b] = color.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.nodeValue.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest(":disabled, .screen-reader, .skip, noscript, option")) continue;
    const style = getComputedStyle(element);
    if (style.fontSize === "0px") continue;
    const background = behind(element);
    const color = over(parse(style.color), background);
    const [light, dark] = [luminance(color), luminance(background)].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 600);
    if (ratio < (large ? 3 : 4.5)) found.add(`${ratio.toFixed(2)}: "${text.slice(0, 30)}" .${element.className}`);
  }
  return [...found];
}
