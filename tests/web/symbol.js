// The tone whose symbol alone is shown, or what is wrong with its contrast: shapes need 3:1.
(() => {
  const shown = [...document.querySelectorAll("#symbol g")].filter((group) => getComputedStyle(group).display !== "none");
  if (shown.length !== 1) return `${shown.length} symbols are shown`;
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map((value) => {
      const part = Number(value) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [shape, line] = shown[0].children;
  const paper = getComputedStyle(document.documentElement).backgroundColor;
  const fill = getComputedStyle(shape).fill;
  for (const color of [paper, getComputedStyle(line).stroke]) {
    const [light, dark] = [luminance(color), luminance(fill)].sort((a, b) => b - a);
    if ((light + 0.05) / (dark + 0.05) < 3) return `${fill} is too near to ${color}`;
  }
  return shown[0].dataset.tone;
})()
