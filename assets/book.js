// What the pages need beyond the theme: colours before the first paint, a few mends for screen readers, a switch for
// the code in view, and slides.
"use strict";
(function () {
  const root = document.documentElement;

  // Loaded in the head: the theme would log an error on a first visit, and show a dark page light for a moment.
  root.dataset.mode = root.dataset.mode || "auto";
  if (root.dataset.mode === "auto") root.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

  // How much code is in view, as the reader last chose; a page opened from a file may have no memory.
  let code = "teaches";
  try { code = localStorage.getItem("seqlab-code") || code; } catch (error) { /* as if nothing was chosen */ }
  root.dataset.code = code;

  const all = (selector, within) => [...(within || document).querySelectorAll(selector)];
  function make(tag, attributes, text) {
    const element = document.createElement(tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    element.textContent = text || "";
    return element;
  }

  // What axe-core finds in the theme: names that differ from the text in view, a logo outside of every landmark,
  // header cells without content, arrows without a name, and roles of bibliographies that no browser knows.
  function mend() {
    all(".search-button-field[aria-label]").forEach((button) => button.removeAttribute("aria-label"));
    all(".navbar-brand").forEach((logo) => {
      logo.parentElement.setAttribute("role", "navigation");
      logo.parentElement.setAttribute("aria-label", "Home");
    });
    all(".bd-article thead th").filter((cell) => !cell.textContent.trim() && !cell.querySelector("img"))
      .forEach((cell) => cell.replaceWith(document.createElement("td")));
    all("[role=doc-biblioentry]").forEach((entry) => entry.setAttribute("role", "listitem"));
    all("li > details > summary").filter((summary) => !summary.textContent.trim()).forEach((summary) =>
      summary.setAttribute("aria-label", "Pages below " + summary.closest("li").querySelector("a").textContent));
    all("details.hide > summary").forEach((summary) => summary.removeAttribute("aria-label"));
  }

  // A full stop after a formula must not begin a line.
  function keepTogether() {
    all("span.math").forEach((formula) => {
      const next = formula.nextSibling;
      const mark = next && next.nodeType === Node.TEXT_NODE && next.data.match(/^[.,;:!?)\]]+/);
      if (!mark) return;
      const kept = make("span", { class: "together" });
      formula.before(kept);
      next.deleteData(0, mark[0].length);
      kept.append(formula, mark[0]);
    });
  }

  // Folded cells that stand in a row, nothing between them, are one line that opens and closes them all.
  function foldTogether(folds) {
    let first = null;
    let count = 0;
    folds.forEach((fold) => {
      let before = fold.parentElement.previousElementSibling;
      while (before && before.matches(".cell") && !before.children.length) before = before.previousElementSibling;
      if (!first || !before || !folds.includes(before.lastElementChild)) {
        first = fold;
        count = 1;
        return;
      }
      const leader = first;
      fold.parentElement.classList.add("folded-too");
      leader.addEventListener("toggle", () => { fold.open = leader.open; });
      leader.querySelector(".collapsed").textContent = `Show the code (${++count} cells)`;
    });
  }

  // The code of a page: all of it; what teaches, with the rest folded; or none, the outputs alone.
  function codeSwitch() {
    const buttons = document.querySelector(".article-header-buttons");
    const folds = all(".bd-article .cell > details.above-input");
    if (!buttons || !all(".bd-article .cell_input").length) return;
    const label = make("label", { class: "code-switch", title: "Code in view" });
    label.append(make("i", { class: "fa-solid fa-code", "aria-hidden": "true" }), make("span", {}, "Code"));
    const select = make("select", {});
    Object.entries({ all: "all", teaches: "what teaches", none: "none" }).forEach(([value, text]) =>
      select.append(make("option", { value }, text)));
    const show = () => {
      root.dataset.code = select.value;
      folds.forEach((fold) => { fold.open = select.value === "all"; });
    };
    select.value = code;
    if (!select.value) select.value = "teaches"; // something else was stored under this name
    select.addEventListener("change", () => {
      show();
      try { localStorage.setItem("seqlab-code", select.value); } catch (error) { /* kept for this page alone */ }
    });
    foldTogether(folds);
    show();
    label.append(select);
    buttons.prepend(label);
  }

  // Slides: a chapter without its prose. Every section is a slide. Of what stands in it directly, paragraphs and code
  // are left out, and all the rest stays as it is and alive: headings, quotes, display maths, lists, tables, figures,
  // claims, quizzes, cards. A paragraph that begins in bold leaves its key sentence: the bold one or, where only a word
  // or two are bold, its first. A section that would be left empty is shown whole. T brings the text back, C the code.
  // What is longer than the screen is gone through block by block before the next slide comes.
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

    button("Back", "ArrowLeft", back);
    const count = make("span", { class: "slides-count", "aria-hidden": "true" });
    const said = make("span", { class: "visually-hidden", "aria-live": "polite" });
    bar.append(count, said);
    button("Next", "ArrowRight", next);
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
        const keys = all(":scope > p", page).filter((paragraph) => {
          const sentence = keySentence(paragraph);
          if (sentence) paragraph.before(sentence);
          return sentence;
        });
        page.classList.toggle("slides-whole", !kept.length && !alive && !keys.length);
        heading(page).tabIndex = -1;
      });
      document.body.append(bar);
    }

    function keySentence(paragraph) {
      const [first, ...rest] = [...paragraph.childNodes].filter((node) => node.textContent.trim());
      if (!first || first.nodeName !== "STRONG") return null;
      const isRunIn = first.textContent.trim().split(/\s+/).length < 5;
      const end = isRunIn && rest.find((node) => node.nodeType === Node.TEXT_NODE && /[.?!](\s|$)/.test(node.data));
      const range = document.createRange();
      range.setStartBefore(first);
      if (end) range.setEnd(end, end.data.search(/[.?!](\s|$)/) + 1);
      else range.setEndAfter(isRunIn ? paragraph.lastChild : first);
      const key = make("p", { class: "slides-key" });
      key.append(range.cloneContents());
      return key;
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

    function next() {
      const bottom = bar.getBoundingClientRect().top;
      const cut = [...pages[at].children].find((block) => block.getBoundingClientRect().bottom > bottom + 1);
      if (!cut) return go(at + 1);
      const top = cut.getBoundingClientRect().top - 8;
      scrollBy(0, top > 8 ? top : 0.8 * bottom);
    }

    function back() {
      if (scrollY > 0) scrollTo(0, 0);
      else go(at - 1);
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
      const act = { ArrowRight: next, PageDown: next, ArrowLeft: back, PageUp: back, " ": event.shiftKey ? back : next,
        Home: () => go(0), End: () => go(pages.length - 1), t: () => toggles.t.click(), c: () => toggles.c.click() }[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    });
  }

  document.addEventListener("DOMContentLoaded", () => { mend(); keepTogether(); codeSwitch(); slides(); });
})();
