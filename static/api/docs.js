"use strict";

// What the page tells: where the document is, and the token that a session's changes need.
const page = document.getElementById("docs").dataset;

SwaggerUIBundle({
  dom_id: "#docs",
  url: page.schema,
  deepLinking: true,
  validatorUrl: null, // the document is shown to nobody else
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  requestInterceptor: (request) => {
    const ours = new URL(request.url, document.baseURI).origin === location.origin;
    if (ours && !["GET", "HEAD", undefined].includes(request.method)) {
      request.headers["X-CSRFToken"] = page.csrfToken;
    }
    return request;
  },
});
