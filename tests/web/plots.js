// What is wrong with the texts of the plots: outside of their plot, or on top of each other, as "problem: texts".
(() => {
  const plots = [...document.querySelectorAll("svg[role=img]")].filter((plot) => plot.checkVisibility());
  if (plots.length < 3) return ["too few plots were found"];
  return plots.flatMap((plot) => {
    const frame = plot.getBoundingClientRect();
    const texts = [...plot.querySelectorAll("text")].filter((node) => node.textContent.trim());
    const places = texts.map((node) => [node.textContent.trim(), node.getBoundingClientRect()]);
    const isOutside = ([, place]) =>
      place.left < frame.left - 1 || place.right > frame.right + 1 || place.top < frame.top - 1 || place.bottom > frame.bottom + 1;
    const overlap = (a, b) =>
      Math.min(a.right, b.right) - Math.max(a.left, b.left) > 0 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
    const pairs = places.flatMap(([name, place], n) =>
      places.slice(n + 1).filter(([, other]) => overlap(place, other)).map(([other]) => `overlap: ${name} / ${other}`));
    return [...places.filter(isOutside).map(([name]) => `outside: ${name}`), ...pairs];
  });
})()
