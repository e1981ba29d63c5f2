// The interface as /openapi.json describes it.

import { ask, element, problem } from "./tools.js";

function resolved(schema, whole) {
  let found = schema;
  while (found && found.$ref) {
    found = found.$ref.split("/").slice(1).reduce((at, name) => at[name], whole);
  }
  return found || {};
}

function kind(schema, whole) {
  if (!schema) return "";
  const name = schema.$ref ? schema.$ref.split("/").pop() : null;
  const found = resolved(schema, whole);
  if (found.anyOf) return found.anyOf.map((each) => kind(each, whole)).join(" or ");
  if (found.type === "array") return `list of ${kind(found.items, whole)}`;
  return name || found.type || "any";
}

function fields(schema, whole) {
  const found = resolved(schema, whole);
  const rows = Object.entries(found.properties || {}).map(([name, part]) => element("tr", {},
    element("td", {}, element("code", {}, name), (found.required || []).includes(name) ? " *" : ""),
    element("td", {}, kind(part, whole)),
    element("td", {}, part.description || resolved(part, whole).description || "")));
  return rows.length ? element("div", { class: "wide" }, element("table", {}, element("tbody", {}, ...rows))) : null;
}

function operation(method, path, told, whole) {
  const parts = [element("p", {}, told.description || "")];
  const given = told.parameters || [];
  if (given.length) {
    parts.push(element("h3", {}, "Parameters"), element("ul", {}, ...given.map((each) => element("li", {},
      element("code", {}, each.name), ` (${each.in}) ${each.description || each.schema?.description || ""}`))));
  }
  const body = told.requestBody?.content?.["application/json"]?.schema;
  if (body) parts.push(element("h3", {}, "Body"), fields(body, whole));
  const reply = told.responses?.["200"]?.content?.["application/json"]?.schema;
  if (reply) parts.push(element("h3", {}, "Reply"), fields(reply, whole));
  return element("details", {},
    element("summary", {}, element("span", { class: "method" }, method.toUpperCase()), " ", element("code", {}, path)),
    ...parts.filter(Boolean));
}

async function start() {
  const place = document.getElementById("operations");
  try {
    const whole = await ask("GET", "/openapi.json");
    const byTag = new Map();
    for (const [path, operations] of Object.entries(whole.paths)) {
      for (const [method, told] of Object.entries(operations)) {
        const tag = told.tags?.[0] || "other";
        if (!byTag.has(tag)) byTag.set(tag, []);
        byTag.get(tag).push(operation(method, path, told, whole));
      }
    }
    place.replaceChildren(
      element("p", {}, "Errors are problem documents (RFC 9457). The same as JSON: ",
        element("a", { href: "/openapi.json" }, "/openapi.json")),
      ...[...byTag].map(([tag, all]) => element("section", { class: "panel" }, element("h2", {}, tag), ...all)));
    document.getElementById("status").textContent = "";
  } catch (error) {
    document.getElementById("status").replaceChildren(problem(error, start));
  }
}

start();
