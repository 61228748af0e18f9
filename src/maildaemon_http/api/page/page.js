// Asks for an API key, fetches the document with it, and hands both to Swagger UI.
// The key is in variables of this script and of Swagger UI, and nowhere that outlives the page.
"use strict";

(() => {
  const DOCUMENT = "/openapi.json";
  const SCHEME = "apiKey"; // of the document's securitySchemes
  const HEADERS = ["x-api-key", "authorization"];
  const SHOWN_INSTEAD = "YOUR_API_KEY";

  const [form, field, trouble, open, forget, operations] = ["entry", "key", "trouble", "open", "forget", "operations"].map(
    (id) => document.getElementById(id),
  );
  let busy = false;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    settle(true);
    try {
      const key = field.value.trim();
      show(await fetched(key), key);
    } catch (error) {
      complain(error.message);
    } finally {
      settle(false);
    }
  });
  field.addEventListener("input", () => complain(""));
  forget.addEventListener("click", () => location.reload());

  function settle(working) {
    busy = working;
    open.setAttribute("aria-disabled", String(working)); // not disabled: that would take the focus away
    open.textContent = working ? "Asking …" : "Show the operations";
  }

  function complain(words) {
    trouble.textContent = words;
    field.toggleAttribute("aria-invalid", false);
    if (!words) return;
    field.setAttribute("aria-invalid", "true");
    field.focus();
    field.select();
  }

  /** The document.  Throws an Error whose message is for people. */
  async function fetched(key) {
    if (!/^[!-~]+$/.test(key)) throw new Error("An API key has letters, digits, - and _ only.");
    let answer;
    try {
      answer = await fetch(DOCUMENT, { headers: { "x-api-key": key }, credentials: "omit", redirect: "error" });
    } catch {
      throw new Error("The service cannot be reached.");
    }
    const said = await answer.json().catch(() => null);
    if (answer.ok && said) return said;
    throw new Error(said?.detail ? words(said) : `The service answered with status ${answer.status}.`);
  }

  /** What a problem document (RFC 9457) says. */
  function words(problem) {
    // Where a key comes from stands on this page already; how it is sent is not for who types it here.
    const remedy = problem.status === 401 ? "" : problem.remedy;
    return [problem.detail, remedy].filter(Boolean).map(sentence).join(" ");
  }

  function sentence(text) {
    return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
  }

  function show(spec, key) {
    const { servers: _, ...described } = spec; // without them Swagger UI calls whom the page came from
    const ui = SwaggerUIBundle({
      spec: described,
      domNode: operations,
      presets: [SwaggerUIBundle.presets.apis],
      plugins: [withoutKeys],
      layout: "BaseLayout",
      deepLinking: true,
      defaultModelsExpandDepth: 0,
      displayRequestDuration: true,
      persistAuthorization: false,
      validatorUrl: null,
      requestInterceptor: here,
      onComplete: () => ui.preauthorizeApiKey(SCHEME, key),
    });
    form.remove(); // the key with it
    operations.hidden = forget.hidden = false;
    operations.focus();
  }

  /** A key goes to this service and to nobody else. */
  function here(request) {
    if (new URL(request.url, location.href).origin !== location.origin) {
      throw new Error("This page speaks with its own service only.");
    }
    request.credentials = "omit";
    return request;
  }

  /** Commands are copied into tickets and chats: they are shown without the key. */
  function withoutKeys() {
    return {
      wrapComponents: {
        curl: (Original, system) => (props) =>
          system.React.createElement(Original, { ...props, request: masked(props.request) }),
      },
    };
  }

  function masked(request) {
    return request.update("headers", (headers) =>
      headers?.map((value, name) => {
        if (!HEADERS.includes(name.toLowerCase())) return value;
        return String(value).startsWith("Bearer ") ? `Bearer ${SHOWN_INSTEAD}` : SHOWN_INSTEAD;
      }),
    );
  }
})();
