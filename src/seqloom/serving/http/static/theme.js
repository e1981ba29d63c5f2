// The chosen theme, before the page is drawn. Without a choice the system's counts.
(() => {
  const KEY = "seqloom-theme";
  const root = document.documentElement;
  const prefers = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem(KEY); } catch { return null; }
  };
  const apply = () => { root.dataset.theme = chosen() || (prefers.matches ? "dark" : "light"); };
  apply();
  prefers.addEventListener("change", apply);
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-theme-button]")) return;
    const theme = root.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem(KEY, theme); } catch { /* it lasts until the page is left */ }
    root.dataset.theme = theme;
  });
})();
