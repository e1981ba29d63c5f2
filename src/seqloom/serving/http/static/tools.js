// What all pages share: elements, requests, the access token, how numbers are written.

function fill(node, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.setAttribute("class", value);
    else if (key === "css") for (const [name, each] of Object.entries(value)) node.style.setProperty(name, each);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// An element; texts among the children are text, never markup.
export function element(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}

export const $ = (id) => document.getElementById(id);

const TOKEN = "seqloom-token";

export function useToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export class RequestError extends Error {
  constructor(document, status) {
    super(document.detail || `The server answered ${status}.`);
    this.status = status;
    this.kind = (document.type || "").split(":").pop();
    this.requestId = document.request_id;
  }
}

// Asks the server; returns its document or throws what the problem document says.
export async function ask(method, path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError({ detail: "The server cannot be reached." }, 0);
  }
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new RequestError(document, answer.status);
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

const MINUS = "\u2212";
const THIN = "\u202f";

export const count = (value) => Number(value).toLocaleString("en");

export function decimals(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? MINUS : "") + text;
}

export function signed(value, digits = 2) {
  const text = decimals(value, digits);
  return value > 0 && Number(text) !== 0 ? `+${text}` : text;
}

export const percent = (share) => `${Math.round(100 * share)}${THIN}%`;

export function ordinal(rank) {
  const teen = rank % 100 > 10 && rank % 100 < 14;
  return count(rank) + (teen ? "th" : ["th", "st", "nd", "rd"][rank % 10] || "th");
}

// A duration in the unit that a person would use.
export function duration(seconds) {
  if (seconds < 120) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)}${THIN}s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)}${THIN}min`;
  return `${(seconds / 3600).toFixed(1)}${THIN}h`;
}

export function size(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}${THIN}M`;
  if (value >= 1e4) return `${Math.round(value / 1e3)}${THIN}k`;
  return count(value);
}

export function day(timestamp, year = false) {
  const options = { day: "numeric", month: "short", timeZone: "UTC", ...(year ? { year: "numeric" } : {}) };
  return new Date(timestamp * 1000).toLocaleDateString("en-GB", options).replace(/ /g, "\u00a0");
}

export const name = (item) => item.title || item.item_id;

// "a", "a and b", "a, b and c"
export function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

export const plural = (number, word, words = `${word}s`) => `${count(number)} ${number === 1 ? word : words}`;

// What went wrong, where it went wrong, and a way to go on.
export function problem(error, again) {
  return element("div", { class: "problem", role: "alert" },
    element("p", {}, error.message),
    element("p", { class: "row" },
      again && element("button", { type: "button", class: "button", onclick: again }, "Try again"),
      error.requestId && element("span", { class: "soft small" }, "Request ", element("code", {}, error.requestId))));
}

let spoken = 0;

// Says something to people who do not see the change.
export function announce(text) {
  clearTimeout(spoken);
  spoken = setTimeout(() => { $("live").textContent = text; }, 60);
}
