// How well each run ranks: its evaluations as tables and bars, its training as a curve.

import { ask, element, number, problem } from "./tools.js";

const SVG = "http://www.w3.org/2000/svg";
const SHOWN = ["hr@10", "ndcg@10", "mrr"];
const GROUPS = ["tail_item", "head_item", "tail_user", "head_user"];
const CURVE = "ndcg@10";

export async function showMetrics(place, models) {
  place.replaceChildren(element("p", { class: "hint" }, "Loading\u2026"));
  const panels = await Promise.all(models.map((model) => panel(model).catch((error) =>
    element("section", { class: "panel" }, element("h2", {}, model.model),
      problem(error, () => showMetrics(place, models))))));
  place.replaceChildren(...panels);
}

async function panel(model) {
  const results = await ask("GET", `/v1/models/${encodeURIComponent(model.model)}/metrics`);
  const parts = [
    element("h2", {}, `${model.model} (${model.system})`),
    element("p", { class: "hint" }, `version ${model.version}, ${model.items.toLocaleString("en")} items, `
      + `${results.parameters.toLocaleString("en")} parameters, trained in ${number(results.seconds_total, 0)} s`),
  ];
  if (!results.evaluations.length) {
    parts.push(element("p", { class: "hint" }, "Not evaluated yet: run seqloom evaluate."));
  }
  for (const each of results.evaluations) {
    parts.push(element("h3", {}, `${each.protocol} ranking, ${each.users.toLocaleString("en")} users`),
      element("p", { class: "hint" }, each.statement), table(each), bars(each));
  }
  const curve = drawCurve(results.log);
  if (curve) parts.push(element("h3", {}, `Training: ${CURVE} on validation`), curve);
  return element("section", { class: "panel" }, ...parts.filter(Boolean));
}

function table(evaluation) {
  const rows = [["all", evaluation.users, evaluation.metrics]];
  for (const group of GROUPS) {
    const row = evaluation.groups[group];
    if (row) rows.push([group.replace("_", " "), row.users, row.metrics]);
  }
  const head = element("tr", {}, ...["users", "count", ...SHOWN].map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map(([name, count, metrics]) => element("tr", {},
    element("td", {}, name), element("td", {}, count.toLocaleString("en")),
    ...SHOWN.map((metric) => element("td", {}, metrics ? number(metrics[metric], 4) : "\u2013"))));
  return element("div", { class: "wide" }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

function shape(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function figure(height, label) {
  const svg = shape("svg", { viewBox: `0 0 480 ${height}`, class: "chart", role: "img", "aria-label": label });
  return svg;
}

function bars(evaluation) {
  const groups = GROUPS.filter((group) => evaluation.groups[group]?.metrics);
  if (!groups.length) return null;
  const values = groups.map((group) => evaluation.groups[group].metrics[CURVE]);
  const largest = Math.max(...values, 1e-9);
  const drawn = figure(groups.length * 26 + 6, `${CURVE} by group`);
  groups.forEach((group, at) => {
    const width = (values[at] / largest) * 300;
    drawn.append(
      shape("text", { x: 0, y: at * 26 + 20 }, group.replace("_", " ")),
      shape("rect", { x: 90, y: at * 26 + 6, width, height: 18, class: group.startsWith("tail") ? "bar second" : "bar" }),
      shape("text", { x: 96 + width, y: at * 26 + 20 }, number(values[at], 4)),
    );
  });
  return drawn;
}

function drawCurve(log) {
  const points = log.filter((row) => row.valid && CURVE in row.valid).map((row) => [row.epoch, row.valid[CURVE]]);
  if (points.length < 2) return null;
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  const largest = Math.max(...points.map((point) => point[1]), 1e-9);
  const x = (epoch) => 50 + ((epoch - first) / Math.max(last - first, 1)) * 410;
  const y = (value) => 150 - (value / largest) * 130;
  const drawn = figure(180, `${CURVE} on validation, by epoch`);
  drawn.append(
    shape("line", { x1: 50, y1: 150, x2: 460, y2: 150, class: "axis" }),
    shape("line", { x1: 50, y1: 20, x2: 50, y2: 150, class: "axis" }),
    shape("polyline", { points: points.map(([e, v]) => `${x(e)},${y(v)}`).join(" "), class: "line" }),
    shape("text", { x: 0, y: 24 }, number(largest, 4)),
    shape("text", { x: 50, y: 170 }, `epoch ${first}`),
    shape("text", { x: 460, y: 170, "text-anchor": "end" }, `${last}`),
  );
  return drawn;
}
