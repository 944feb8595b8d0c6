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
  let spoken = first;
  // Unseen until the words have come, when the page was made in another language than the person reads.
  const arrived = () => html.classList.remove("sn-arriving");
  if (document.querySelector("meta[name=snug-language]")?.content !== first) {
    html.classList.add("sn-arriving");
    setTimeout(arrived, 15000);
  }
  // Gradio waits for words of its own in any browser that is not English, and can lose its load event
  // meanwhile. It shows none of those words here, so it may think that every browser is English.
  Object.defineProperty(navigator, "language", { get: () => "en", configurable: true });
  Object.defineProperty(navigator, "languages", { get: () => ["en"], configurable: true });

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
  // A button in our own HTML that stands for one of Gradio's.
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-press]");
    if (button) press(`#${button.dataset.press}`);
  });
  let sentAt = -Infinity;
  const stop = (event) => {
    const press = () => {
      const button = document.querySelector("#message .stop-button");
      button?.click();
      return button !== null;
    };
    if (press() || event.timeStamp - sentAt > 1000) return;
    // The question has just left: its button to stop comes in a moment.
    const box = new MutationObserver(() => { if (press()) box.disconnect(); });
    box.observe(document.getElementById("message"), { childList: true, subtree: true });
    setTimeout(() => box.disconnect(), 1000);
  };
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (html.classList.contains("sn-setup")) html.classList.remove("sn-setup");
    else stop(event);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && event.target.closest?.("#message")) sentAt = event.timeStamp;
  }, true);
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#message .submit-button")) sentAt = event.timeStamp;
  }, true);

  // A picture dropped or pasted anywhere goes to the message box; without this the browser would leave
  // the page to show it.
  const handOver = (event, data) => {
    if (!data?.files.length || event.target.closest?.("#message")) return;
    event.preventDefault();
    const input = document.querySelector("#message input[type=file]");
    if (!input) return;
    input.files = data.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => handOver(event, event.dataTransfer));
  document.addEventListener("paste", (event) => handOver(event, event.clipboardData));

  // The conversation follows its last line unless the person has scrolled up.
  const follow = () => {
    const view = document.getElementById("transcript");
    if (!view || view.dataset.followed) return;
    view.dataset.followed = "1";
    let stuck = true;
    view.addEventListener("scroll", () => { stuck = view.scrollHeight - view.scrollTop - view.clientHeight < 80; });
    const stay = () => { if (stuck) view.scrollTop = view.scrollHeight; };
    new MutationObserver(stay).observe(view, { childList: true, subtree: true, characterData: true });
    new ResizeObserver(stay).observe(view);
  };

  // Gradio names the parts of its message box in English only; they come and go.
  const parts = {
    "Multimedia input field": ["Question and pictures", "问题与图片"],
    "Upload a file": ["Add pictures", "添加图片"],
    "File upload": ["Add pictures", "添加图片"],
    "Click to upload or drop files": ["Add pictures", "添加图片"],
    "Uploaded files": ["Pictures", "图片"],
    "File thumbnail": ["Picture", "图片"],
    "Remove file": ["Remove the picture", "移除图片"],
    Uploading: ["Uploading", "正在上传"],
    Submit: ["Send", "发送"],
    Stop: ["Stop", "停止"],
  };
  const nameParts = () => {
    for (const part of document.querySelectorAll("#message [aria-label]")) {
      part.dataset.part ??= part.ariaLabel;
      const word = parts[part.dataset.part]?.[spoken === "zh" ? 1 : 0];
      if (!word || part.ariaLabel === word) continue;
      part.ariaLabel = word;
      if (part.tagName === "BUTTON") part.title = word;
    }
  };
  const watchParts = () => {
    const box = document.getElementById("message");
    if (!box || box.dataset.watched) return;
    box.dataset.watched = "1";
    new MutationObserver(nameParts).observe(box, { childList: true, subtree: true });
  };

  // What the empty message box says follows the model: it may not look at pictures.
  const invite = () => {
    const words = document.querySelector("#reading [data-placeholder]")?.dataset.placeholder;
    const area = document.querySelector("#message textarea");
    if (words && area && area.placeholder !== words) area.placeholder = words;
  };
  const watchInvitation = () => {
    const line = document.getElementById("reading");
    if (!line || line.dataset.watched) return;
    line.dataset.watched = "1";
    const watcher = new MutationObserver(invite);
    watcher.observe(line, { childList: true, subtree: true });
    watcher.observe(document.getElementById("message"), { attributeFilter: ["placeholder"], subtree: true });
  };

  // Gradio leaves these controls without a name of their own.
  const name = () => {
    // Gradio writes its own language there when it begins.
    html.lang = spoken;
    const words = { en: ["Your question", "Light or dark"], zh: ["你的问题", "浅色或深色"] }[spoken];
    document.querySelector("#message textarea")?.setAttribute("aria-label", words[0]);
    const theme = document.getElementById("theme-toggle");
    theme?.setAttribute("aria-label", words[1]);
    theme?.setAttribute("title", words[1]);
    document.querySelector("#message input[type=file]")?.setAttribute("accept", "image/*");
    nameParts();
    watchParts();
    invite();
    watchInvitation();
  };

  // True when no other tab goes by this name; the lock is held for as long as the page lives.
  const claim = (tab) => new Promise((answer) => {
    if (!navigator.locks) return answer(true);
    navigator.locks.request(`snug-${tab}`, { ifAvailable: true }, (lock) => {
      answer(lock !== null);
      return lock && new Promise(() => {});
    }).catch(() => answer(true));
  });

  // What is chosen on the page: a reload gets its own tab's back, a new tab what was chosen last.
  let read = false;

  window.snug = {
    async arrive() {
      paint();
      follow();
      name();
      // A duplicated tab comes with its model's name: it takes one of its own and a copy of the conversation.
      const source = sessionStorage.getItem("snug-tab") ?? crypto.randomUUID();
      const tab = (await claim(source)) ? source : crypto.randomUUID();
      if (tab !== source) await claim(tab);
      sessionStorage.setItem("snug-tab", tab);
      read = true;
      const kept = sessionStorage.getItem("snug-chosen") ?? store.getItem("snug-chosen") ?? "";
      return [first, `${tab} ${source}`, kept];
    },
    // Takes out of the message box what was asked or can't be read, and leaves what was written since.
    leave(draft, leaving) {
      const { text, files } = JSON.parse(leaving || '{"text": "", "files": []}');
      const paths = new Set(files);
      return [{
        ...draft,
        text: draft.text.startsWith(text) ? draft.text.slice(text.length) : draft.text,
        files: draft.files.filter((file) => !paths.has(file.path)),
      }];
    },
    keep(text) {
      if (!read || !text) return;
      sessionStorage.setItem("snug-chosen", text);
      store.setItem("snug-chosen", text);
    },
    arrived() {
      requestAnimationFrame(() => requestAnimationFrame(arrived));
    },
    language(value) {
      store.setItem("snug-language", value);
      spoken = value;
      name();
      return [value];
    },
    theme() {
      store.setItem("snug-theme", dark() ? "light" : "dark");
      paint();
    },
    // The person has already said "camera": press Gradio's own button for it as soon as it is there.
    camera(tries = 40) {
      const access = document.querySelector("#camera video")?.parentElement.querySelector("button");
      if (access) access.click();
      else if (tries) setTimeout(() => window.snug.camera(tries - 1), 50);
    },
    setup() {
      html.classList.toggle("sn-setup");
    },
  };
})();
