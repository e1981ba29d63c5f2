// What all pages share: elements, requests, the access token.

export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const TOKEN = "seqloom-token";

export function useToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export class RequestError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// Ask the server; gives its document or throws what the problem document says.
export async function ask(method, path, body) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new RequestError("The server cannot be reached.", 0);
  }
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new RequestError(document.detail || `The server answered ${answer.status}.`, answer.status);
  }
  return document;
}

// A function that runs `work` once the caller has been quiet for a moment.
export function settled(work, wait = 150) {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), wait);
  };
}

export function number(value, digits = 3) {
  return Number(value).toLocaleString("en", {
    minimumFractionDigits: digits, maximumFractionDigits: digits,
  });
}

export function problem(error, again) {
  const parts = [element("p", { class: "error", role: "alert" }, error.message)];
  if (again) parts.push(element("button", { type: "button", onclick: again }, "Try again"));
  return element("div", {}, ...parts);
}
