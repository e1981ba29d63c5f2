// What is on screen, as the address has it: a copied link shows the same.

export const state = {
  user: null, // null: an empty history, to which items are tried
  own: false,
  models: [],
  why: null,
  by: null,
  tried: [],
  back: 0,
  about: "",
  weight: 1, // of the sentence
};

const past = [];
const MOST_PAST = 100;

const copy = () => ({ ...state, models: [...state.models], tried: [...state.tried] });

export function readAddress(models) {
  const given = new URLSearchParams(location.hash.slice(1));
  const known = (given.get("models") || "").split(",").filter((each) => models.includes(each));
  state.user = given.get("user");
  state.own = given.has("own");
  state.models = [...new Set([...known, ...models])].slice(0, 2);
  state.why = given.get("why");
  state.by = state.models.includes(given.get("by")) ? given.get("by") : state.models[0];
  state.tried = given.getAll("try").slice(0, 20);
  state.back = Math.min(1000, Math.max(0, Number.parseInt(given.get("back"), 10) || 0));
  state.about = (given.get("about") || "").slice(0, 500);
  state.weight = Math.min(100, Math.max(0, Number.parseFloat(given.get("weight") ?? 1) || 0));
}

export function writeAddress(served) {
  const given = new URLSearchParams();
  if (state.user !== null) given.set("user", state.user);
  else if (state.own) given.set("own", "1");
  if (state.models.join() !== served.slice(0, 2).join()) given.set("models", state.models.join());
  if (state.why) given.set("why", state.why);
  if (state.by && state.by !== state.models[0]) given.set("by", state.by);
  for (const item of state.tried) given.append("try", item);
  if (state.back) given.set("back", state.back);
  if (state.about) given.set("about", state.about);
  if (state.about && state.weight !== 1) given.set("weight", state.weight);
  const hash = `#${given}`;
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

// Remembers the present state, before it is changed, so that the change can be undone.
export function remember() {
  past.push(copy());
  if (past.length > MOST_PAST) past.shift();
}

export const canUndo = () => past.length > 0;

export function undo() {
  const last = past.pop();
  if (last) Object.assign(state, last);
  return Boolean(last);
}

export function forget() {
  past.length = 0;
}
