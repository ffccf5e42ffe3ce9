// Bring every figure on the page that is not yet alive to life. Each figure carries this script, so that it works alone.
(function () {
  "use strict";
  const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");
  const SAY_MS = 500; // a change is announced once the reader has paused
  const REACH_PX = 30; // a point this near to the pointer is read

  document.querySelectorAll(".seqlab-explore:not([data-ready])").forEach(function (figure) {
    figure.dataset.ready = "";
    const find = (selector) => figure.querySelector(selector);
    const data = JSON.parse(find("script[type='application/json']").textContent);
    const picture = find(".seqlab-picture");
    const said = find(".seqlab-said");
    const words = find(".seqlab-words");
    const told = find(".seqlab-narration > p");
    const link = find(".seqlab-link");
    const rows = [...figure.querySelectorAll("[data-control]")];
    let frame = data.start;
    let saying = 0;

    // Frames: a frame is a list of pieces of SVG; the pieces are shared between frames.
    function indexOf(row) {
      const range = row.querySelector("input[type=range]");
      return range ? Number(range.value) : [...row.querySelectorAll("input")].findIndex((radio) => radio.checked);
    }
    function show() {
      frame = 0;
      rows.forEach(function (row, j) {
        const i = indexOf(row);
        frame = frame * data.texts[j].length + i;
        const range = row.querySelector("input[type=range]");
        if (!range) return;
        range.setAttribute("aria-valuetext", data.texts[j][i]);
        row.querySelector(".seqlab-value").textContent = data.texts[j][i];
      });
      picture.innerHTML = data.frames[frame].map((piece) => data.pieces[piece]).join("\n");
      const svg = picture.firstElementChild;
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", data.alts[frame]);
      if (words) words.textContent = data.alts[frame];
      if (told) told.innerHTML = data.narrations[frame];
      if (link) link.hash = address();
      read(-1);
    }
    function say() {
      clearTimeout(saying);
      saying = setTimeout(() => { said.textContent = told ? told.textContent : data.alts[frame]; }, SAY_MS);
    }

    // An address keeps the state: #fig-name&u=0.9&T=50 opens the figure on it.
    function address() {
      const state = rows.map((row, j) => "&" + row.dataset.key + "=" + encodeURIComponent(data.texts[j][indexOf(row)]));
      return figure.id + state.join("");
    }
    function arrive() {
      const [id, ...state] = location.hash.slice(1).split("&");
      if (id !== figure.id || document.getElementById(id) !== figure || !rows.length) return;
      rows.forEach(function (row, j) {
        const given = state.find((part) => part.startsWith(row.dataset.key + "="));
        if (!given) return;
        let text = given.slice(row.dataset.key.length + 1);
        try { text = decodeURIComponent(text); } catch (error) { return; } // typed by hand
        const i = data.texts[j].indexOf(text);
        if (i < 0) return;
        const range = row.querySelector("input[type=range]");
        if (range) range.value = i;
        else row.querySelectorAll("input")[i].checked = true;
      });
      stopAll();
      show();
      if (state.length) figure.scrollIntoView(); // the browser knows the plain anchor only
    }

    // Controls
    const players = [];
    const stopAll = () => players.forEach((player) => player.stop());
    rows.forEach(function (row, j) {
      // The same figure may stand twice on a page: its radio groups must not share a name.
      const group = "seqlab" + document.querySelectorAll("[data-ready]").length + "-" + j;
      row.querySelectorAll("input").forEach(function (input) {
        if (input.type === "radio") input.name = group;
        input.addEventListener("input", function () { stopAll(); show(); say(); });
      });
      if (row.dataset.control === "steps") players.push(playerOf(row, data.seconds[j]));
    });

    // Play and step. Nothing moves by itself; where less motion is wished for, one press of Play is one step.
    function playerOf(row, seconds) {
      const range = row.querySelector("input[type=range]");
      const [back, play, next] = row.querySelectorAll("button");
      let timer = 0;
      function move(by) {
        range.value = Number(range.value) + by;
        show();
      }
      function stop() {
        if (!timer) return;
        clearTimeout(timer);
        timer = 0;
        play.textContent = "Play";
        say();
      }
      function tick() {
        if (!figure.isConnected) return stop();
        move(1);
        wait();
      }
      function wait() {
        if (range.value === range.max) stop();
        else timer = setTimeout(tick, 1000 * seconds[Number(range.value)]);
      }
      back.addEventListener("click", function () { stopAll(); move(-1); say(); });
      next.addEventListener("click", function () { stopAll(); move(1); say(); });
      play.addEventListener("click", function () {
        const playing = timer;
        stopAll();
        if (playing) return;
        const atEnd = range.value === range.max;
        move(atEnd ? -range.max : 1);
        if (reducedMotion.matches || range.value === range.max) return say();
        play.textContent = "Pause";
        wait();
      });
      return { stop };
    }

    // Reading values: the point nearest to the pointer, or the next one by arrow key.
    const reading = find(".seqlab-reading");
    const hint = reading ? reading.textContent : "";
    let point = -1;
    function read(index) {
      const old = picture.querySelector(".seqlab-ring");
      if (old) old.remove();
      point = index;
      if (!reading) return;
      const points = data.points[frame];
      const text = index < 0 ? hint : data.labels[points[index][2]];
      if (reading.textContent !== text) reading.textContent = text; // a live region: speak of changes only
      if (index < 0) return;
      const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      const attributes = { class: "seqlab-ring", cx: points[index][0], cy: points[index][1], r: 7, fill: "none", stroke: "currentColor", "stroke-width": 2 };
      Object.keys(attributes).forEach((key) => ring.setAttribute(key, attributes[key]));
      picture.firstElementChild.appendChild(ring);
    }
    function nearest(event) {
      const svg = picture.firstElementChild;
      const box = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * scale;
      const y = (event.clientY - box.top) * scale;
      const far = data.points[frame].map((p) => Math.hypot(p[0] - x, p[1] - y));
      const best = far.indexOf(Math.min(...far));
      const hit = best >= 0 && far[best] <= REACH_PX * scale ? best : -1;
      if (hit !== point) read(hit);
    }
    if (reading) {
      reading.hidden = false;
      picture.tabIndex = 0;
      picture.setAttribute("role", "group");
      picture.setAttribute("aria-label", "Values in the picture; arrow keys go from point to point");
      picture.addEventListener("pointermove", nearest);
      picture.addEventListener("pointerdown", nearest);
      picture.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") read(-1); });
      picture.addEventListener("blur", () => read(-1));
      picture.addEventListener("keydown", function (event) {
        const last = data.points[frame].length - 1;
        const to = { ArrowRight: point + 1, ArrowDown: point + 1, ArrowLeft: point - 1, ArrowUp: point - 1, Home: 0, End: last }[event.key];
        if (event.key === "Escape") read(-1);
        if (to === undefined || last < 0) return;
        event.preventDefault();
        read(Math.max(0, Math.min(last, to)));
      });
    }

    figure.querySelectorAll(".seqlab-controls").forEach((controls) => { controls.hidden = false; });
    window.addEventListener("hashchange", arrive);
    arrive();
  });
})();
