// Every target that a glove would miss: smaller than 56 pixels, or nearer than 8 to another one.
(() => {
  const targets = [...document.querySelectorAll("button, input, a, summary, select")].filter((node) => node.checkVisibility());
  const places = targets.map((node) => [node.textContent || node.id, node.getBoundingClientRect()]);
  if (places.length < 2) return ["too few targets were found"];
  const small = places.filter(([, place]) => place.width < 56 || place.height < 56);
  const apart = (a, b) => Math.max(a.left - b.right, b.left - a.right, a.top - b.bottom, b.top - a.bottom);
  const near = places.filter(([, place], n) => places.some(([, other], m) => m > n && apart(place, other) < 8));
  return [...small.map(([name]) => `small: ${name}`), ...near.map(([name]) => `near another: ${name}`)];
})()
