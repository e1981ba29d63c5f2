// The interface as /openapi.json describes it.

import { ask, element, problem } from "./tools.js";

function resolved(schema, whole) {
  let definition = schema;
  while (definition && definition.$ref) {
    definition = definition.$ref.split("/").slice(1).reduce((at, name) => at[name], whole);
  }
  return definition || {};
}

function kind(schema, whole) {
  if (!schema) return "";
  const name = schema.$ref ? schema.$ref.split("/").pop() : null;
  const definition = resolved(schema, whole);
  if (definition.anyOf) return definition.anyOf.map((each) => kind(each, whole)).join(" or ");
  if (definition.type === "array") return `list of ${kind(definition.items, whole)}`;
  return name || definition.type || "any";
}

function fields(schema, whole) {
  const definition = resolved(schema, whole);
  const rows = Object.entries(definition.properties || {}).map(([name, part]) => element("tr", {},
    element("td", {}, element("code", {}, name), (definition.required || []).includes(name) ? " *" : ""),
    element("td", {}, kind(part, whole)),
    element("td", {}, part.description || resolved(part, whole).description || "")));
  return rows.length ? element("div", { class: "wide" }, element("table", {}, element("tbody", {}, ...rows))) : null;
}

function operation(method, path, endpoint, whole) {
  const parts = [element("p", {}, endpoint.description || "")];
  const parameters = endpoint.parameters || [];
  if (parameters.length) {
    parts.push(element("h3", {}, "Parameters"), element("ul", {}, ...parameters.map((each) => element("li", {},
      element("code", {}, each.name), ` (${each.in}) ${each.description || each.schema?.description || ""}`))));
  }
  const body = endpoint.requestBody?.content?.["application/json"]?.schema;
  if (body) parts.push(element("h3", {}, "Body"), fields(body, whole));
  const reply = endpoint.responses?.["200"]?.content?.["application/json"]?.schema;
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
      for (const [method, endpoint] of Object.entries(operations)) {
        const tag = endpoint.tags?.[0] || "other";
        if (!byTag.has(tag)) byTag.set(tag, []);
        byTag.get(tag).push(operation(method, path, endpoint, whole));
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
