// The few things that only the browser can do: remember, switch, and listen to keys.
(() => {
  const store = window.localStorage;
  const html = document.documentElement;

  const asked = new URLSearchParams(location.search).get("lang");
  const language = () => {
    const known = ["en", "zh"];
    if (known.includes(asked)) return asked;
    const kept = store.getItem("snug-language");
    if (known.includes(kept)) return kept;
    return (navigator.languages?.[0] ?? "en").toLowerCase().startsWith("zh") ? "zh" : "en";
  };
  const first = language();
  html.lang = first;
  // Gradio words its own small controls by the browser's language; ours is the person's choice.
  for (const [name, value] of [["language", first === "zh" ? "zh-CN" : "en"], ["languages", [first === "zh" ? "zh-CN" : "en"]]]) {
    Object.defineProperty(navigator, name, { get: () => value, configurable: true });
  }

  const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => {
    const kept = store.getItem("snug-theme");
    return kept ? kept === "dark" : systemDark.matches;
  };
  const paint = () => {
    html.classList.toggle("sn-dark", dark());
    document.body?.classList.toggle("dark", dark());
  };
  systemDark.addEventListener("change", paint);
  document.addEventListener("DOMContentLoaded", paint);
  paint();

  const press = (selector) => document.querySelector(selector)?.click();
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (html.classList.contains("sn-setup")) html.classList.remove("sn-setup");
    else press("#message .stop-button");
  });

  window.snug = {
    arrive() {
      paint();
      let tab = sessionStorage.getItem("snug-tab");
      if (!tab) {
        tab = crypto.randomUUID();
        sessionStorage.setItem("snug-tab", tab);
      }
      return [first, tab];
    },
    language(value) {
      store.setItem("snug-language", value);
      html.lang = value;
      return [value];
    },
    theme() {
      store.setItem("snug-theme", dark() ? "light" : "dark");
      paint();
    },
    setup() {
      html.classList.toggle("sn-setup");
    },
  };
})();
