// What is on screen, as files for a spreadsheet.

import { element, name } from "./tools.js";

// Quoted where it must be; a text that a spreadsheet would calculate stays a text.
function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function save(file, rows) {
  const text = rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
  const address = URL.createObjectURL(new Blob([`\ufeff${text}`], { type: "text/csv" }));
  element("a", { href: address, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// `lists` are replies of /v1/compare; the rank in the other list is empty where that model cannot list the item.
export function saveLists(models, lists) {
  const rows = lists.flatMap((list, side) => (list?.items || []).map((item, at) => {
    const other = lists[1 - side];
    return [models[side], at + 1, item.item_id, name(item), item.score, other ? other.ranks[item.item_id] : ""];
  }));
  save("lists.csv", [["model", "rank", "item_id", "title", "score", "rank_in_other_list"], ...rows]);
}

export function saveEvents(events) {
  const rows = events.map((event) => [
    event.item_id, name(event), event.timestamp === null ? "" : new Date(event.timestamp * 1000).toISOString(), event.part,
  ]);
  save("events.csv", [["item_id", "title", "time", "part"], ...rows]);
}
