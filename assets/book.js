// What the pages need beyond the theme: colours before the first paint, a few mends for screen readers, and slides.
"use strict";
(function () {
  const root = document.documentElement;

  // Loaded in the head: the theme would log an error on a first visit, and show a dark page light for a moment.
  root.dataset.mode = root.dataset.mode || "auto";
  if (root.dataset.mode === "auto") root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

  const all = (selector, within) => [...(within || document).querySelectorAll(selector)];
  function make(tag, attributes, text) {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.textContent = text || "";
    return element;
  }

  // What axe-core finds in the theme: names that differ from the text in view, a logo outside of every landmark,
  // header cells without content, and roles of bibliographies that no browser knows.
  function mend() {
    all(".search-button-field[aria-label]").forEach((button) => button.removeAttribute("aria-label"));
    all(".navbar-brand").forEach((logo) => {
      logo.parentElement.setAttribute("role", "navigation");
      logo.parentElement.setAttribute("aria-label", "Home");
    });
    all(".bd-article thead th").filter((cell) => !cell.textContent.trim() && !cell.querySelector("img"))
      .forEach((cell) => cell.replaceWith(document.createElement("td")));
    all("[role=doc-biblioentry]").forEach((entry) => entry.setAttribute("role", "listitem"));
  }

  // Slides: a chapter without its prose. Every section is a slide. Of what stands in it directly, paragraphs and code
  // are left out, and all the rest stays as it is and alive: headings, quotes, display maths, lists, tables, figures,
  // claims, quizzes, cards. A paragraph that begins in bold gives that key sentence to the slide. A section that would
  // be left empty is shown whole. T brings the text back, C the code.
  function slides() {
    const buttons = document.querySelector(".article-header-buttons");
    const pages = all(".bd-article section").filter((section) => section.querySelector(":scope > :is(h1, h2, h3, h4)"));
    if (!buttons || pages.length < 2 || !/\/notebooks\/[^/]+$/.test(location.pathname)) return;

    const open = make("button", { type: "button", class: "btn slides-open", title: "Show this chapter as slides" });
    open.append(make("i", { class: "fa-solid fa-display", "aria-hidden": "true" }), make("span", {}, "Slides"));
    buttons.prepend(open);

    const bar = make("nav", { class: "slides-bar", "aria-label": "Slides" });
    const button = (text, keys, act) => {
      const made = make("button", { type: "button", "aria-keyshortcuts": keys, title: "Key: " + keys }, text);
      made.addEventListener("click", act);
      bar.append(made);
      return made;
    };
    const heading = (page) => page.querySelector(":scope > :is(h1, h2, h3, h4)");
    const shown = () => root.classList.contains("slides");
    let at = 0;

    button("Back", "ArrowLeft", () => go(at - 1));
    const count = make("span", { class: "slides-count", "aria-hidden": "true" });
    const said = make("span", { class: "visually-hidden", "aria-live": "polite" });
    bar.append(count, said);
    button("Next", "ArrowRight", () => go(at + 1));
    const toggles = { t: toggle("Text", "t", "slides-text"), c: toggle("Code", "c", "slides-code") };
    button("Leave", "Escape", leave);

    function toggle(text, key, name) {
      const made = button(text, key.toUpperCase(), () => made.setAttribute("aria-pressed", root.classList.toggle(name)));
      made.setAttribute("aria-pressed", "false");
      return made;
    }

    // Once, when slides are first wanted: key sentences, and the sections that would be left empty.
    function prepare() {
      if (bar.isConnected) return;
      pages.forEach((page) => {
        const kept = [...page.children].filter((child) => !child.matches("p, section, .cell, h1, h2, h3, h4, .target"));
        const alive = page.querySelector(":scope > .cell :is(.text_html, img)");
        let keys = 0;
        all(":scope > p", page).forEach((paragraph) => {
          const first = [...paragraph.childNodes].find((node) => node.textContent.trim());
          if (!first || first.nodeName !== "STRONG") return;
          const key = make("p", { class: "slides-key" });
          key.append(first.cloneNode(true));
          paragraph.before(key);
          keys += 1;
        });
        page.classList.toggle("slides-whole", !kept.length && !alive && !keys);
        heading(page).tabIndex = -1;
      });
      document.body.append(bar);
    }

    function go(to) {
      at = Math.max(0, Math.min(pages.length - 1, to));
      all(".slides-now, .slides-path").forEach((element) => element.classList.remove("slides-now", "slides-path"));
      pages[at].classList.add("slides-now");
      for (let up = pages[at].parentElement; up.matches("section"); up = up.parentElement) up.classList.add("slides-path");
      const title = [...heading(pages[at]).childNodes].map((n) => (n.className === "headerlink" ? "" : n.textContent)).join("");
      count.textContent = `${at + 1} / ${pages.length}`;
      said.textContent = `Slide ${at + 1} of ${pages.length}: ${title}`;
      scrollTo(0, 0);
      if (!bar.contains(document.activeElement)) heading(pages[at]).focus({ preventScroll: true });
    }

    function enter() {
      prepare();
      const above = pages.filter((page) => heading(page).getBoundingClientRect().top < innerHeight / 2);
      root.classList.add("slides");
      pages.forEach((page) => heading(page).setAttribute("aria-level", 1)); // each is the only heading in view
      go(above.length - 1);
      if (root.requestFullscreen) root.requestFullscreen().catch(() => {}); // not granted: the window will do
    }

    function leave() {
      if (!shown()) return;
      root.classList.remove("slides");
      pages.forEach((page) => heading(page).removeAttribute("aria-level"));
      if (document.fullscreenElement) document.exitFullscreen();
      heading(pages[at]).scrollIntoView();
      open.focus({ preventScroll: true });
    }

    open.addEventListener("click", enter);
    document.addEventListener("fullscreenchange", () => { if (!document.fullscreenElement) leave(); });
    document.addEventListener("keydown", (event) => {
      const inControl = event.target.closest("input, select, textarea, dialog, .seqlab-picture[tabindex]");
      const inButton = event.target.closest("button, a, summary");
      if (!shown() || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape") return leave(); // though Sphinx has marked it as used
      if (event.defaultPrevented || inControl || (event.key === " " && inButton)) return;
      const to = { ArrowRight: at + 1, PageDown: at + 1, ArrowLeft: at - 1, PageUp: at - 1, Home: 0, End: pages.length - 1,
        " ": event.shiftKey ? at - 1 : at + 1 }[event.key];
      if (to !== undefined) {
        event.preventDefault();
        go(to);
      } else if (toggles[event.key.toLowerCase()]) toggles[event.key.toLowerCase()].click();
    });
  }

  document.addEventListener("DOMContentLoaded", () => { mend(); slides(); });
})();
