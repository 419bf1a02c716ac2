// What axe-core finds, once its own script has run, as "rule: where".
axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  rules: { "color-contrast-enhanced": { enabled: true } },
}).then(({ passes, violations }) => [
  ...(passes.length < 10 ? ["it looked at next to nothing"] : []),
  ...violations.map((found) => `${found.id}: ${found.nodes.map((node) => node.target.join(" ")).join(", ")}`),
])
