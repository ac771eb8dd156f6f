// What the page does in the browser alone: theme, time zone, signing out, and hearing of news.
"use strict";

(function () {
  const prefers = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const here = () => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const prefix = location.pathname.split("/").slice(0, 2).join("/");

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    fxcast: {
      theme: (clicks, theme) => {
        const now = theme || prefers();
        return clicks ? (now === "dark" ? "light" : "dark") : now;
      },
      zone: (clicks, zone) => (clicks ? (zone === "UTC" ? here() : "UTC") : zone || "UTC"),
      paint: (theme) => {
        document.documentElement.dataset.theme = theme || prefers();
        return theme === "dark" ? "Light" : "Dark";
      },
      nameZone: (zone) => zone || "UTC",
      // What a reader of page Market wants to see: the answer to an earlier wish is then dropped, however late it comes.
      pan: (moved, kept, zone, timeframe) => {
        const view = { timeframe, zone, start: "", stop: "", steps: [], turn: kept.turn };
        if (moved && moved["xaxis.autorange"]) return { ...view, turn: kept.turn + 1 };
        const [start, stop] = (moved && moved["xaxis.range"]) || [0, 1].map((end) => moved && moved[`xaxis.range[${end}]`]);
        return start && stop ? { ...view, start, stop } : window.dash_clientside.no_update; // a resize, or another tool
      },
      step: (clicks, kept) => {
        const pressed = window.dash_clientside.callback_context.triggered_id;
        if (!pressed || !clicks.some(Boolean)) return window.dash_clientside.no_update;
        return { ...kept, steps: [...kept.steps, pressed.to] };
      },
      freshness: (connection) => {
        document.documentElement.dataset.connection = connection;
        return { live: "live", connecting: "connecting", lost: "no connection: what you see is old" }[connection];
      },
    },
  });

  // Dash makes a list box and options of tick boxes, behind which readers of screens don't find the boxes themselves.
  const boxes = ":is(.dash-checklist, .dash-radioitems)";
  const plain = ({ target }) =>
    (target.parentElement || target).querySelectorAll(`${boxes}[role], ${boxes} :is([role="option"], [aria-selected])`).forEach((part) => {
      part.removeAttribute("role");
      part.removeAttribute("aria-selected");
    });
  // A question takes the focus, so that the keyboard finds it, and gives it back; no button of it, lest Enter answers unread.
  let question = null;
  let before = null;
  const attend = () => {
    const now = document.querySelector('[role="alertdialog"]');
    if (now === question) return;
    if (now) {
      before = question ? before : document.activeElement;
      now.tabIndex = -1;
      now.focus();
    } else if (before && before.isConnected) {
      before.focus();
    }
    question = now;
  };
  const watched = { subtree: true, childList: true, attributeFilter: ["aria-selected"] };
  new MutationObserver((changes) => {
    changes.forEach(plain);
    attend();
  }).observe(document, watched);

  const set = (id, data) => {
    // Dash's renderer takes properties once its layout is there; before that the news waits for the next try.
    try {
      window.dash_clientside.set_props(id, { data });
    } catch {
      setTimeout(() => set(id, data), 200);
    }
  };

  // The server says something every ten seconds, and ends a stream now and again: then the browser connects anew by itself.
  let silent;
  let lostAt = Infinity;
  const lostIn = (ms) => {
    if (lostAt <= Date.now() + ms) return; // errors that follow each other put nothing off
    lostAt = Date.now() + ms;
    clearTimeout(silent);
    silent = setTimeout(() => set("connection", "lost"), ms);
  };
  const heard = () => {
    set("connection", "live");
    lostAt = Infinity;
    lostIn(15000);
  };

  const listen = () => {
    const events = new EventSource(prefix + "/events");
    events.addEventListener("marks", (event) => {
      heard();
      set("live", JSON.parse(event.data));
    });
    events.addEventListener("silence", heard);
    events.onerror = async () => {
      lostIn(3000);
      if (events.readyState !== EventSource.CLOSED) return;
      // It was refused, and a browser does not try that again: either the session is over, or nothing answers now.
      const page = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" }).catch(() => null);
      if (page && page.type === "opaqueredirect") location.reload();
      else setTimeout(listen, 2000);
    };
  };
  window.addEventListener("load", listen);

  document.addEventListener("click", async (event) => {
    if (event.target.id !== "sign-out") return;
    const csrf = (document.cookie.match(/(?:^|; )_csrf_token=([^;]*)/) || [])[1] || "";
    await fetch(prefix + "/logout", { method: "POST", headers: { "X-CSRFToken": decodeURIComponent(csrf) } });
    location.assign(prefix + "/login");
  });
})();
