// Every visible text whose contrast with what is behind it is below 7:1, as "ratio text".
(() => {
  const numbers = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = numbers(color).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((numbers(color)[3] ?? 1) === 1) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const ratio = (one, two) => {
    const [light, dark] = [luminance(one), luminance(two)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  const seen = [...document.body.querySelectorAll("*")].filter((node) =>
    hasText(node) && node.checkVisibility() && !node.classList.contains("unseen"));
  const found = seen.map((node) => [ratio(getComputedStyle(node).color, behind(node)), node.textContent]);
  if (found.length < 10) return ["too little text was found"];
  return found.filter(([contrast]) => contrast < 7).map(([contrast, text]) => `${contrast.toFixed(2)} ${text}`);
})()
