// The API: FastAPI's description in Swagger UI, with "try it". The token of this tab goes along.

const root = document.documentElement;
const follow = () => root.classList.toggle("dark-mode", root.dataset.theme === "dark");
follow();
new MutationObserver(follow).observe(root, { attributeFilter: ["data-theme"] });

globalThis.SwaggerUIBundle({
  url: "/openapi.json",
  domNode: document.getElementById("swagger"),
  presets: [globalThis.SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  syntaxHighlight: { activated: false },
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  displayRequestDuration: true,
  validatorUrl: null,
  requestInterceptor: (request) => {
    const token = sessionStorage.getItem("seqloom-token");
    if (token && !request.headers.Authorization) request.headers.Authorization = `Bearer ${token}`;
    return request;
  },
});
