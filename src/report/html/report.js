"use strict";
// Draws what the page's data has. Every text of the run becomes a text node or an attribute that is no code: this file names no
// innerHTML, and the page's policy would refuse it.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  /** Characters of a text that are shown at once; a layout of more than that takes a browser seconds. */
  const SHOWN = 50_000;
  /** Rows that are drawn at once. */
  const ROWS = 200;
  /** Unpacked parts that are kept, a megabyte each. */
  const KEPT = 16;

  const byId = (id) => document.getElementById(id);

  /** An element with attributes and children; a child that is no node becomes a text. */
  function make(name, attributes, ...children) {
    return fill(document.createElement(name), attributes, children);
  }
  function draw(name, attributes, ...children) {
    return fill(document.createElementNS(SVG, name), attributes, children);
  }
  function fill(element, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (typeof value === "function") element.addEventListener(key, value);
      else if (value === true) element.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  }

  const two = (n) => String(n).padStart(2, "0");
  function clock(ms, tenths) {
    if (ms === null || ms === undefined) return "–";
    const t = new Date(ms);
    const seconds = `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}:${two(t.getUTCSeconds())}`;
    return tenths ? `${seconds}.${String(t.getUTCMilliseconds()).padStart(3, "0")}` : seconds;
  }
  function lasting(ms) {
    if (ms === null || ms === undefined || ms < 0) return "";
    if (ms < 1000) return `${Math.round(ms)} ms`;
    if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
    const seconds = Math.round(ms / 1000);
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
    return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  }
  function size(bytes) {
    if (bytes < 1000) return `${bytes} B`;
    if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
    return `${(bytes / 1e6).toFixed(1)} MB`;
  }
  const count = (n) => n.toLocaleString("en-US");
  const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

  /** The value of a packed block. */
  async function unpack(id) {
    const block = byId(id);
    if (!block) throw new Error("left out");
    const binary = atob(block.textContent);
    const bytes = new Uint8Array(binary.length);
    for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  const parts = new Map();
  function part(number) {
    let known = parts.get(number);
    if (known === undefined) known = unpack(`part-${number}`);
    parts.delete(number);
    parts.set(number, known);
    if (parts.size > KEPT) parts.delete(parts.keys().next().value);
    return known;
  }
  /** The whole of a text, as far as the page has it. */
  async function whole(text) {
    return text.at ? (await part(text.at[0]))[text.at[1]] : text.head;
  }
  const lostWords = (text) => (text.lost ? `${size(text.lost)} of this text are not on this page: the record's files have them.` : "");

  /** Puts a text into `into`, a piece after the other. */
  async function show(into, text, from) {
    let all;
    try {
      all = await whole(text);
    } catch {
      into.append(make("p", { class: "note" }, "This text is not on this page: the record's files have it."));
      return;
    }
    const body = make("pre", { tabindex: 0 });
    into.append(body);
    let shown = 0;
    const more = make("button", { class: "more", type: "button", click: next });
    function next() {
      // A pair of surrogates is not cut.
      let end = Math.min(all.length, shown + (shown ? 4 * SHOWN : SHOWN));
      if (end < all.length && (all.charCodeAt(end - 1) & 0xfc00) === 0xd800) end += 1;
      body.append(all.slice(shown, end));
      shown = end;
      if (shown < all.length) more.textContent = `Show more (${size(all.length - shown)} are left)`;
      else more.remove();
    }
    if (from) body.classList.add(from);
    if (all.length > SHOWN) into.append(more);
    next();
    if (all === "") body.append("(empty)");
    if (text.lost) into.append(make("p", { class: "note" }, lostWords(text)));
  }

  /** Words with a button for the rest of them. */
  function words(text, name) {
    const body = make("p", { class: `said ${name || ""}` }, text.head);
    const holder = make("div", {}, body);
    if (text.at) {
      body.append("…");
      const more = make("button", { class: "more", type: "button", click: () => {
        more.remove();
        body.remove();
        show(holder, text, "said");
      } }, `Show all ${size(text.bytes)}`);
      holder.append(more);
    } else if (text.lost) holder.append(make("p", { class: "note" }, lostWords(text)));
    return holder;
  }

  /** Rows of a list, some at a time; `reach` draws as far as a row. */
  function list(into, rows, row) {
    let drawn = 0;
    const more = make("button", { class: "more", type: "button", click: () => reach(drawn + ROWS - 1) });
    function reach(to) {
      const batch = [];
      for (; drawn < rows.length && drawn <= to; drawn++) batch.push(row(rows[drawn], drawn));
      into.append(...batch);
      if (drawn < rows.length) more.textContent = `Show ${count(Math.min(ROWS, rows.length - drawn))} more of ${count(rows.length)}`;
      else more.remove();
    }
    reach(ROWS - 1);
    return { more: drawn < rows.length ? more : null, reach };
  }

  const PASSED = new Set(["allow", "replay", "accepted", "would-push", "approved", "modified", "answered", "ended"]);
  const tone = (verdict) => (PASSED.has(verdict) ? "good" : verdict === "error" || verdict === "held" || verdict === "asked" ? "warn" : "bad");
  const chip = (verdict) => make("span", { class: `chip ${tone(verdict)}` }, verdict);

  /** Shows an element that the timeline points at. */
  function go(element) {
    if (!element) return;
    for (const old of document.querySelectorAll(".target")) old.classList.remove("target");
    for (let up = element; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    element.classList.add("target");
    if (!element.hasAttribute("tabindex")) element.setAttribute("tabindex", "-1");
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "center" });
  }

  function field(label, control) {
    return make("label", {}, label, control);
  }
  const place = (id) => {
    const element = byId(id).querySelector(".drawn");
    element.replaceChildren();
    return element;
  };

  // ---- Timeline

  const LANES = [
    ["phases", "Phases"], ["turns", "Turns"], ["tools", "Tools"], ["requests", "Requests"], ["pushes", "Pushes"], ["proposals", "Proposals"],
  ];

  function items(data, views) {
    const all = [];
    const add = (lane, from, to, words, refused, target) => {
      if (from !== null && from !== undefined) all.push({ lane, from, to: Math.max(to || from, from), words, refused, target });
    };
    for (const phase of data.phases) add("phases", phase.from, phase.to, phase.name, false, null);
    data.turns.forEach((turn, at) => {
      add("turns", turn.from, turn.to, `Turn ${at + 1}${turn.sub ? " (sub-agent)" : ""}: ${gist(turn)}`, false, () => views.turns(at));
      turn.blocks.forEach((block, number) => {
        if (block.kind !== "tool") return;
        add("tools", block.from, block.to, `${block.name} ${block.brief}${block.failed ? " (failed)" : ""}`, block.failed, () => views.turns(at, number));
      });
    });
    data.requests.forEach((request, at) => {
      const text = `${request.method} ${request.host}${request.path} → ${request.verdict}${request.reason ? ` (${request.reason})` : ""}`;
      add("requests", request.at, request.at + request.ms, `${request.door}: ${text}`, !PASSED.has(request.verdict), () => views.requests(at));
    });
    data.pushes.forEach((push, at) => {
      add("pushes", push.from, push.to, `${push.ref} → ${push.verdict}`, !PASSED.has(push.verdict), () => views.pushes(at));
    });
    for (const asked of data.proposals) {
      const refused = asked.status === "denied" || asked.status === "timed-out" || asked.status === "failed";
      add("proposals", asked.from, asked.to || data.to, `${asked.id} ${asked.what} → ${asked.status}`, refused, () => go(byId("proposals")));
    }
    return all.sort((one, other) => one.from - other.from);
  }
  function gist(turn) {
    for (const block of turn.blocks) if (block.text && block.text.head) return block.text.head.slice(0, 120).replaceAll("\n", " ");
    const tool = turn.blocks.find((block) => block.kind === "tool");
    return tool ? `${tool.name} ${tool.brief}` : "";
  }

  function timeline(data, views) {
    const into = place("timeline");
    const all = items(data, views);
    if (all.length === 0) {
      into.append(make("p", { class: "note" }, "Nothing of this run has a time."));
      return;
    }
    let first = Infinity;
    let last = -Infinity;
    for (const item of all) {
      first = Math.min(first, item.from);
      last = Math.max(last, item.to);
    }
    if (last - first < 10) last = first + 10;
    let from = first;
    let to = last;
    let shown = all;
    let picked = null;
    const on = new Map(LANES.map(([lane]) => [lane, true]));

    const box = make("div", {
      class: "axis", tabindex: 0, role: "application", "aria-label": "Timeline", "aria-describedby": "timeline-keys timeline-picked",
      keydown: key, click, wheel,
    });
    const read = make("p", { id: "timeline-picked", class: "picked-words", "aria-live": "polite" });
    const search = make("input", { type: "search", input: filter });
    const refused = make("input", { type: "checkbox", change: filter });
    const lanes = LANES.map(([lane, title]) =>
      field("", make("input", { type: "checkbox", checked: true, "aria-label": title, change: (event) => { on.set(lane, event.target.checked); filter(); } })));
    lanes.forEach((label, at) => label.append(LANES[at][1]));
    const button = (words, title, does) => make("button", { type: "button", "aria-label": title, title, click: does }, words);
    into.append(
      make("div", { class: "bar" },
        make("span", { class: "group" },
          button("+", "Zoom in", () => zoom(0.5)), button("−", "Zoom out", () => zoom(2)),
          button("←", "Earlier", () => pan(-0.25)), button("→", "Later", () => pan(0.25)), button("All", "All of the run", whole)),
        field("Filter", search), field("", refused)),
      make("div", { class: "bar", role: "group", "aria-label": "Rows" }, ...lanes),
      make("p", { id: "timeline-keys", class: "note" },
        "Keys: ← → go from one to the next in a row, ↑ ↓ change the row, Enter goes to its details, + − zoom, 0 shows the whole run. Times are UTC."),
      box, read);
    refused.after("Only what was refused or failed");

    function whole() { from = first; to = last; render(); }
    function zoom(by, middle) {
      const at = middle === undefined ? (picked && picked.from >= from && picked.from <= to ? picked.from : (from + to) / 2) : middle;
      const width = Math.min(last - first, Math.max(5, (to - from) * by));
      from = Math.max(first, at - (at - from) * (width / (to - from)));
      to = from + width;
      if (to > last) { to = last; from = to - width; }
      render();
    }
    function pan(by) {
      const step = Math.max(first - from, Math.min(last - to, (to - from) * by));
      from += step;
      to += step;
      render();
    }
    function filter() {
      const text = search.value.toLowerCase();
      shown = all.filter((item) => on.get(item.lane) && (!refused.checked || item.refused) && (!text || item.words.toLowerCase().includes(text)));
      if (picked && !shown.includes(picked)) pick(null);
      render();
    }
    function pick(item) {
      picked = item;
      read.replaceChildren();
      if (!item) return;
      const title = LANES.find(([lane]) => lane === item.lane)[1];
      read.append(make("strong", {}, title), " ", item.words, make("br"),
        make("span", { class: "quiet" }, `${clock(item.from, true)}, ${lasting(item.to - item.from) || "0 ms"}, ${lasting(item.from - first) || "0 ms"} after the start`));
      if (item.from < from || item.from > to) {
        const width = to - from;
        from = Math.min(last - width, Math.max(first, item.from - width / 2));
        to = from + width;
      }
    }
    function key(event) {
      const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const upwards = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (sideways) step(sideways);
      else if (upwards) row(upwards);
      else if (event.key === "+" || event.key === "=") zoom(0.5);
      else if (event.key === "-") zoom(2);
      else if (event.key === "0") whole();
      else if (event.key === "Home") { pick(shown[0] || null); render(); }
      else if (event.key === "End") { pick(shown[shown.length - 1] || null); render(); }
      else if (event.key === "Enter" && picked && picked.target) picked.target();
      else return;
      event.preventDefault();
    }
    function step(by) {
      const row = picked ? shown.filter((item) => item.lane === picked.lane) : shown;
      const at = picked ? row.indexOf(picked) + by : 0;
      if (row[at]) pick(row[at]);
      render();
    }
    function row(by) {
      const rows = LANES.map(([lane]) => lane).filter((lane) => shown.some((item) => item.lane === lane));
      if (rows.length === 0) return;
      const at = picked ? Math.max(0, Math.min(rows.length - 1, rows.indexOf(picked.lane) + by)) : 0;
      const when = picked ? picked.from : from;
      let best = null;
      for (const item of shown) {
        if (item.lane === rows[at] && (!best || Math.abs(item.from - when) < Math.abs(best.from - when))) best = item;
      }
      pick(best);
      render();
    }
    function wheel(event) {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const area = box.getBoundingClientRect();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, from + ((event.clientX - area.left - LEFT) / (area.width - LEFT)) * (to - from));
    }
    function click(event) {
      const rect = event.target.closest("rect[data-at]");
      if (!rect) return;
      const item = all[Number(rect.getAttribute("data-at"))];
      if (picked === item && item.target) item.target();
      else { pick(item); render(); }
    }

    const HEIGHT = 26;
    const LEFT = 84;
    function render() {
      const width = Math.max(320, box.clientWidth || 900);
      const rows = LANES.filter(([lane]) => on.get(lane));
      const height = 24 + rows.length * HEIGHT;
      const x = (ms) => LEFT + ((ms - from) / (to - from)) * (width - LEFT - 6);
      const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
      for (const tick of ticks(from, to, Math.max(2, Math.floor((width - LEFT) / 110)))) {
        svg.append(draw("line", { class: "rule", x1: x(tick), x2: x(tick), y1: 18, y2: height }),
          draw("text", atTick(x(tick), width), to - from < 5000 ? clock(tick, true) : clock(tick)));
      }
      const numbers = new Map(all.map((item, at) => [item, at]));
      rows.forEach(([lane, title], at) => {
        const y = 22 + at * HEIGHT;
        svg.append(draw("text", { x: 6, y: y + 14 }, title), draw("line", { class: "rule", x1: 0, x2: width, y1: y + HEIGHT - 3, y2: y + HEIGHT - 3 }));
        let end = { good: -1, bad: -1 };
        for (const item of shown) {
          if (item.lane !== lane || item.to < from || item.from > to) continue;
          const left = Math.max(LEFT, x(item.from));
          const right = Math.max(left + 2, Math.min(width - 4, x(item.to)));
          const kind = item.refused ? "bad" : "good";
          // What would not be a pixel of its own is not drawn; the keys still come to it.
          if (item !== picked && right < end[kind] + 0.8) continue;
          end[kind] = right;
          svg.append(draw("rect", {
            class: `l-${lane}${item.refused ? " refused" : ""}${item === picked ? " picked" : ""}`, "data-at": numbers.get(item),
            x: left, y: y + (item.refused ? 0 : 3), width: right - left, height: item.refused ? HEIGHT - 6 : HEIGHT - 12, rx: 1.5,
          }, draw("title", {}, `${clock(item.from, true)} ${item.words}`)));
          if (lane === "phases" && right - left > item.words.length * 6.5 + 8) {
            svg.append(draw("text", { class: "on", x: left + 4, y: y + 14 }, item.words));
          }
        }
      });
      box.replaceChildren(svg);
    }
    render();
    new ResizeObserver(render).observe(box);
  }

  /** Where a tick's label is: behind its line, at the right edge before it. */
  function atTick(at, width) {
    return at + 72 > width ? { x: at - 3, y: 12, "text-anchor": "end" } : { x: at + 3, y: 12 };
  }

  /** Round times between two. */
  function ticks(from, to, most) {
    const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 144e5, 432e5, 864e5];
    const step = steps.find((step) => (to - from) / step <= most) || 7 * 864e5;
    const found = [];
    for (let at = Math.ceil(from / step) * step; at <= to && found.length <= most; at += step) found.push(at);
    return found;
  }

  // ---- Turns

  function turns(data) {
    const into = place("turns");
    const calls = new Map();
    for (const call of data.calls) {
      if (call.turn === null || call.turn === undefined) continue;
      const known = calls.get(call.turn) || { tokens: 0, cost: 0 };
      known.tokens += call.input + call.cache_write + call.cache_read + call.output;
      known.cost += call.cost || 0;
      calls.set(call.turn, known);
    }
    const search = make("input", { type: "search", keydown: (event) => { if (event.key === "Enter") filter(); }, input: () => { if (!deep.checked) filter(); } });
    const deep = make("input", { type: "checkbox", change: filter });
    const failed = make("input", { type: "checkbox", change: filter });
    const status = make("span", { class: "quiet", role: "status" });
    const body = make("div");
    const foot = make("p");
    into.append(make("div", { class: "bar" }, field("Filter", search), field("", deep), field("", failed), status), body, foot);
    deep.after("In whole inputs and outputs");
    failed.after("Only with failed tools");
    const numbers = data.turns.map((_, at) => at);
    const nodes = new Map();
    let rows = numbers;
    let drawn = null;
    let asked = 0;

    async function filter() {
      const turn = ++asked;
      const text = search.value.toLowerCase();
      const found = [];
      for (const at of numbers) {
        const blocks = data.turns[at].blocks;
        if (failed.checked && !blocks.some((block) => block.failed)) continue;
        if (text && !(await has(blocks, text, deep.checked))) continue;
        found.push(at);
        if (turn !== asked) return;
        if (deep.checked && text && at % 20 === 0) status.textContent = `looking, turn ${at + 1} of ${numbers.length}`;
      }
      if (turn !== asked) return;
      rows = found;
      render();
    }
    async function has(blocks, text, deep) {
      for (const block of blocks) {
        const heads = block.kind === "tool" ? `${block.name} ${block.brief}` : block.text.head;
        if (heads.toLowerCase().includes(text)) return true;
        if (!deep) continue;
        for (const long of [block.text, block.input, block.output]) {
          // What is not on the page is not looked through; the summary says that it is missing.
          if (long && (await whole(long).catch(() => "")).toLowerCase().includes(text)) return true;
        }
      }
      return false;
    }
    function render() {
      body.replaceChildren();
      foot.replaceChildren();
      nodes.clear();
      drawn = list(body, rows, (at) => {
        const node = turnNode(data, at, calls.get(at));
        nodes.set(at, node);
        return node;
      });
      if (drawn.more) foot.append(drawn.more);
      status.textContent = rows.length === numbers.length ? plural(numbers.length, "turn") : `${count(rows.length)} of ${plural(numbers.length, "turn")}`;
    }
    render();
    return (at, block) => {
      if (!rows.includes(at)) {
        search.value = "";
        failed.checked = false;
        rows = numbers;
        render();
      }
      drawn.reach(rows.indexOf(at));
      const node = nodes.get(at);
      go(block === undefined ? node : node.querySelector(`[data-block="${block}"]`));
    };
  }

  function turnNode(data, at, call) {
    const turn = data.turns[at];
    const facts = [clock(turn.from), turn.model, call ? `${count(call.tokens)} tokens` : "", call && call.cost ? `$${call.cost.toFixed(4)}` : ""];
    const who = turn.blocks.some((block) => block.kind === "told") ? "Told" : `Turn ${at + 1}`;
    const node = make("article", { class: `turn${turn.sub ? " sub" : ""}`, "aria-label": `Turn ${at + 1}` },
      make("h3", {}, who, turn.sub ? " (sub-agent)" : "", make("span", { class: "quiet" }, ` · ${facts.filter(Boolean).join(" · ")}`)));
    turn.blocks.forEach((block, number) => {
      if (block.kind === "tool") node.append(toolNode(block, number));
      else if (block.kind === "unread") node.append(make("p", { class: "note" }, "A line that is no event of Claude Code's:"), words(block.text, "mono"));
      else node.append(words(block.text, block.kind === "thought" ? "thought" : ""));
    });
    return node;
  }

  function toolNode(tool, number) {
    const facts = [
      tool.from && tool.to ? lasting(tool.to - tool.from) : "",
      tool.output ? size(tool.output.bytes) : "no output came",
    ];
    const details = make("details", { class: `tool${tool.failed ? " failed" : ""}`, "data-block": number },
      make("summary", {}, make("strong", {}, tool.name), make("code", { class: "brief" }, tool.brief),
        tool.failed ? make("span", { class: "bad" }, "✗ failed") : "", make("span", { class: "quiet nowrap" }, facts.filter(Boolean).join(" · "))));
    details.addEventListener("toggle", async () => {
      // Only what is open is in the page.
      for (const child of [...details.children]) if (child.tagName !== "SUMMARY") child.remove();
      if (!details.open) return;
      const body = make("div");
      details.append(body);
      body.append(make("h4", {}, "Input"));
      await show(body, tool.input);
      if (!tool.output) return;
      body.append(make("h4", {}, "Output"));
      await show(body, tool.output);
    });
    return details;
  }

  // ---- Pushes

  function pushes(data) {
    const into = place("pushes");
    const nodes = [];
    if (data.pushes.length === 0) into.append(make("p", { class: "note" }, "Nothing was pushed."));
    data.pushes.forEach((push, at) => {
      const facts = [
        /^0+$/.test(push.old) ? `new, at ${push.new.slice(0, 12)}` : `${push.old.slice(0, 12)} → ${push.new.slice(0, 12)}`, plural(push.commits, "commit"), plural(push.objects, "object"), size(push.bytes),
        `decided at ${clock(push.to)}`, `judged in ${lasting(push.judge)}, scanned in ${lasting(push.scan)}, forwarded in ${lasting(push.forward)}`,
      ];
      const node = make("article", { class: "push", "aria-label": `Push ${at + 1}` },
        make("h3", {}, `Push ${at + 1} `, chip(push.verdict), " ", make("code", {}, push.ref), ` at ${push.repo}`),
        make("p", { class: "quiet" }, facts.join(" · ")));
      if (push.reasons.length) node.append(make("ul", {}, ...push.reasons.map((reason) => make("li", {}, words(reason)))));
      if (push.findings.length) {
        node.append(make("ul", {}, ...push.findings.map((found) => make("li", { class: "bad" }, make("strong", {}, found.rule), " at ",
          make("code", {}, found.path + (found.line ? `:${found.line}` : "")), found.commit ? ` in ${found.commit.slice(0, 12)}` : ""))));
      }
      const edits = data.edits.slice(push.edits[0], push.edits[1]);
      node.append(editList(edits, push.findings, at === 0 ? "before this push" : "since the push before"));
      nodes.push(node);
      into.append(node);
    });
    const end = data.pushes.length ? data.pushes[data.pushes.length - 1].edits[1] : 0;
    if (end < data.edits.length) {
      into.append(make("h3", {}, "Not pushed"), editList(data.edits.slice(end), [], data.pushes.length ? "after the last push" : "in this run"));
    }
    return (at) => go(nodes[at]);
  }

  function editList(edits, findings, when) {
    const holder = make("div");
    if (edits.length === 0) {
      holder.append(make("p", { class: "note" }, `The transcript has no edit by a tool ${when}. What commands wrote is not in it; git has it.`));
      return holder;
    }
    holder.append(make("p", { class: "note" }, `What Edit and Write changed ${when}, by the transcript; what commands wrote is not in it.`));
    for (const edit of edits) {
      const own = findings.filter((found) => found.line && (edit.file === found.path || edit.file.endsWith(`/${found.path}`)));
      const details = make("details", {}, make("summary", {}, make("code", {}, edit.file), ` turn ${edit.turn + 1} `,
        make("span", { class: "good" }, `+${edit.added}`), " ", make("span", { class: "bad" }, `−${edit.removed}`),
        own.length ? make("strong", { class: "bad" }, ` ${plural(own.length, "finding")}`) : ""));
      details.addEventListener("toggle", async () => {
        for (const child of [...details.children]) if (child.tagName !== "SUMMARY") child.remove();
        if (details.open) details.append(await diffNode(edit, own));
      });
      if (own.length) details.open = true;
      holder.append(details);
    }
    return holder;
  }

  async function diffNode(edit, findings) {
    const holder = make("div");
    let text;
    try {
      text = await whole(edit.diff);
    } catch {
      return make("p", { class: "note" }, "This diff is not on this page: transcript.jsonl has it.");
    }
    const lines = hunks(text);
    const box = make("div", { class: "diff", tabindex: 0, role: "region", "aria-label": `Change ${edit.number} of this run, in ${edit.file}` });
    const flip = make("button", { type: "button", "aria-pressed": "false", click: () => {
      const split = flip.getAttribute("aria-pressed") === "false";
      flip.setAttribute("aria-pressed", split);
      render(split);
    } }, "Side by side");
    function render(split) {
      box.classList.toggle("split", split);
      const rows = split ? pairs(lines) : lines.map((line) => [line]);
      const body = make("tbody");
      const drawn = list(body, rows, (row) => diffRow(row, split, findings));
      box.replaceChildren(make("table", {}, body));
      if (drawn.more) box.append(drawn.more);
    }
    render(false);
    holder.append(make("div", { class: "bar" }, flip), box);
    if (edit.diff.lost) holder.append(make("p", { class: "note" }, lostWords(edit.diff)));
    return holder;
  }

  /** The lines of a unified diff with their numbers. */
  function hunks(text) {
    const lines = [];
    let old = 0;
    let now = 0;
    for (const line of text.split("\n")) {
      const head = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/.exec(line);
      if (head) {
        [old, now] = [Number(head[1]), Number(head[2])];
        lines.push({ kind: "hunk", text: line });
      } else if (line.startsWith("+")) lines.push({ kind: "added", now: now++, text: line.slice(1) });
      else if (line.startsWith("-")) lines.push({ kind: "removed", old: old++, text: line.slice(1) });
      else if (line !== "" ) lines.push({ kind: "same", old: old++, now: now++, text: line.slice(1) });
    }
    return lines;
  }
  /** Removed and added lines beside each other. */
  function pairs(lines) {
    const rows = [];
    let removed = [];
    let added = [];
    const flush = () => {
      for (let at = 0; at < Math.max(removed.length, added.length); at++) rows.push([removed[at] || null, added[at] || null]);
      removed = [];
      added = [];
    };
    for (const line of lines) {
      if (line.kind === "removed") removed.push(line);
      else if (line.kind === "added") added.push(line);
      else {
        flush();
        rows.push(line.kind === "hunk" ? [line] : [line, line]);
      }
    }
    flush();
    return rows;
  }
  function diffRow(row, split, findings) {
    const fragment = document.createDocumentFragment();
    const number = (n) => make("td", { class: "number" }, n || "");
    if (row[0] && row[0].kind === "hunk") return make("tr", { class: "hunk" }, make("td", { colspan: 4 }, row[0].text));
    if (split) {
      const [one, other] = row;
      fragment.append(make("tr", {}, number(one && one.old), make("td", { class: one ? one.kind : "" }, one ? one.text : ""),
        number(other && other.now), make("td", { class: other ? other.kind : "" }, other ? other.text : "")));
    } else {
      const line = row[0];
      const sign = { added: "+", removed: "−", same: " " }[line.kind];
      fragment.append(make("tr", { class: line.kind }, number(line.old), number(line.now), make("td", { colspan: 2 }, `${sign} ${line.text}`)));
    }
    const now = (split ? row[1] : row[0]) || {};
    for (const found of findings) {
      if (now.kind !== "removed" && found.line === now.now) fragment.append(make("tr", { class: "found" }, make("td", { colspan: 4 }, `↑ ${found.rule}: refused by the gate`)));
    }
    return fragment;
  }

  // ---- Requests

  const COLUMNS = [
    ["Time", (r) => r.at, (r) => make("td", { class: "nowrap" }, clock(r.at, true))],
    ["Door", (r) => r.door, (r) => make("td", {}, r.door)],
    ["Request", (r) => `${r.host}${r.path}`, (r) => make("td", {}, make("code", {}, `${r.method} ${r.host}${r.port === 443 ? "" : `:${r.port}`}${r.path}`),
      r.not_inspected ? make("span", { class: "chip warn" }, "not looked into") : "")],
    ["Verdict", (r) => r.verdict, (r) => make("td", {}, chip(r.verdict), " ", make("span", { class: "quiet", title: r.meaning }, r.reason),
      r.finding ? make("div", { class: "bad" }, r.finding) : "", r.proposal ? make("div", { class: "quiet" }, `asked as ${r.proposal}`) : "")],
    ["Status", (r) => r.status, (r) => make("td", { class: "number" }, r.status || "–")],
    ["Route", (r) => (r.route === null ? -1 : r.route), (r) => make("td", { class: "number" }, r.route === null ? "–" : `#${r.route}`)],
    ["Credential", (r) => r.credential, (r) => make("td", {}, r.credential || "–")],
    ["Sent", (r) => r.sent, (r) => make("td", { class: "number" }, size(r.sent))],
    ["Received", (r) => r.received, (r) => make("td", { class: "number" }, size(r.received))],
    ["First byte", (r) => r.first, (r) => make("td", { class: "number" }, `${count(r.first)} ms`)],
    ["Whole", (r) => r.ms, (r) => make("td", { class: "number" }, `${count(r.ms)} ms`)],
  ];

  function requests(data) {
    const into = place("egress");
    for (const request of data.requests) {
      const word = request.reason.split(":")[0];
      if (Object.hasOwn(data.reasons, word)) request.meaning = data.reasons[word];
    }
    const choice = (name, values) => make("select", { change: render }, make("option", { value: "" }, `all ${name}`), ...[...new Set(values)].sort().map((value) => make("option", { value }, value)));
    const search = make("input", { type: "search", input: render });
    const verdict = choice("verdicts", data.requests.map((request) => request.verdict));
    const door = choice("doors", data.requests.map((request) => request.door));
    const status = make("span", { class: "quiet", role: "status" });
    const body = make("tbody");
    const foot = make("p");
    let order = { column: 0, down: false };
    const heads = COLUMNS.map(([title, , cell], at) => make("th", { scope: "col", "aria-sort": at === 0 ? "ascending" : "none" }, make("button", {
      type: "button", click: () => {
        order = { column: at, down: order.column === at && !order.down };
        heads.forEach((head, other) => head.setAttribute("aria-sort", other !== at ? "none" : order.down ? "descending" : "ascending"));
        render();
      } }, title)));
    into.append(make("div", { class: "bar" }, field("Filter", search), field("Verdict", verdict), field("Door", door), status),
      make("div", { class: "wide", role: "region", tabindex: 0, "aria-label": "Requests, a row each" }, make("table", { class: "requests" }, make("thead", {}, make("tr", {}, ...heads)), body)), foot);
    let nodes = new Map();
    let rows = [];
    let drawn = null;
    function render() {
      const text = search.value.toLowerCase();
      const value = COLUMNS[order.column][1];
      rows = data.requests.filter((request) => (!verdict.value || request.verdict === verdict.value) && (!door.value || request.door === door.value) &&
        (!text || `${request.method} ${request.host}${request.path} ${request.reason} ${request.finding} ${request.credential} ${request.id}`.toLowerCase().includes(text)));
      const sign = order.down ? -1 : 1;
      rows.sort((one, other) => {
        const [a, b] = [value(one), value(other)];
        return a < b ? -sign : a > b ? sign : 0;
      });
      body.replaceChildren();
      foot.replaceChildren();
      nodes = new Map();
      drawn = list(body, rows, (request) => {
        const node = make("tr", {}, ...COLUMNS.map(([, , cell]) => cell(request)));
        nodes.set(request, node);
        return node;
      });
      if (drawn.more) foot.append(drawn.more);
      const out = rows.reduce((sum, request) => sum + request.sent, 0);
      const back = rows.reduce((sum, request) => sum + request.received, 0);
      status.textContent = `${plural(rows.length, "line")}, ${size(out)} sent, ${size(back)} received`;
    }
    render();
    return (at) => {
      const request = data.requests[at];
      if (!rows.includes(request)) {
        search.value = verdict.value = door.value = "";
        render();
      }
      drawn.reach(rows.indexOf(request));
      go(nodes.get(request));
    };
  }

  // ---- Cost

  const TOKENS = [["input", "Input"], ["cache_write", "Written to the cache"], ["cache_read", "Read from the cache"], ["output", "Output"]];

  function cost(data) {
    const into = place("cost");
    if (data.calls.length === 0) {
      into.append(make("p", { class: "note" }, "No call to the model was paid for."));
      return;
    }
    const turns = new Map();
    for (const call of data.calls) {
      const at = call.turn === undefined ? null : call.turn;
      const row = turns.get(at) || { turn: at, calls: 0, cost: 0, unpriced: 0, input: 0, cache_write: 0, cache_read: 0, output: 0 };
      row.calls += 1;
      row.cost += call.cost || 0;
      row.unpriced += call.cost === null ? 1 : 0;
      for (const [key] of TOKENS) row[key] += call[key];
      turns.set(at, row);
    }
    const rows = [...turns.values()].sort((one, other) => (one.turn === null) - (other.turn === null) || one.turn - other.turn);
    const sum = (key) => rows.reduce((all, row) => all + row[key], 0);
    const name = (row) => (row.turn === null ? "no turn" : `turn ${row.turn + 1}`);
    const models = [...new Set(data.calls.map((call) => call.model))].join(", ");
    const unpriced = sum("unpriced");
    into.append(make("p", {}, `${plural(data.calls.length, "call")} to ${models}: ${TOKENS.map(([key, title]) => `${count(sum(key))} ${title.toLowerCase()}`).join(", ")}`,
      ` tokens; $${sum("cost").toFixed(4)} as egress counts it${unpriced ? `, ${plural(unpriced, "call")} without a price not counted` : ""}.`));
    into.append(bars("Cost by turn, US dollars", rows, name, [["cost", "Cost"]], (value) => `$${value.toFixed(4)}`));
    into.append(bars("Tokens by turn", rows, name, TOKENS, count));
    into.append(make("div", { class: "key" }, ...TOKENS.map(([, title], at) => make("span", {}, draw("svg", { viewBox: "0 0 8 8", "aria-hidden": "true" }, draw("rect", { class: `s${at}`, width: 8, height: 8 })), title))));
    const body = make("tbody");
    const drawn = list(body, rows, (row) => make("tr", {}, make("th", { scope: "row" }, name(row)), make("td", { class: "number" }, row.calls),
      ...TOKENS.map(([key]) => make("td", { class: "number" }, count(row[key]))), make("td", { class: "number" }, row.cost.toFixed(4))));
    into.append(make("details", {}, make("summary", {}, "As a table"), make("div", { class: "wide", role: "region", tabindex: 0, "aria-label": "Cost and tokens by turn" },
      make("table", {}, make("thead", {}, make("tr", {}, ...["Turn", "Calls", ...TOKENS.map(([, title]) => title), "US dollars"].map((title, at) => make("th", { scope: "col", class: at ? "number" : "" }, title)))), body)),
      drawn.more || ""));
  }

  /** Stacked bars. */
  function bars(title, rows, name, series, words) {
    const [width, height, left] = [Math.max(300, Math.min(1100, byId("cost").clientWidth - 40)), 120, 62];
    // A bar is a pixel at least: of many turns, some are added up.
    const by = Math.max(1, Math.ceil((rows.length * 2) / (width - left)));
    const groups = [];
    for (let at = 0; at < rows.length; at += by) groups.push(rows.slice(at, at + by));
    const total = (group) => series.reduce((all, [key]) => all + group.reduce((sum, row) => sum + row[key], 0), 0);
    const most = Math.max(...groups.map(total)) || 1;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height + 20}`, role: "img", "aria-label": `${title}; the table below has the numbers` });
    const step = (width - left) / groups.length;
    for (const share of [0, 0.5, 1]) {
      const y = 8 + (height - 8) * (1 - share);
      svg.append(draw("line", { class: "rule", x1: left, x2: width, y1: y, y2: y }), draw("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, words(most < 100 ? most * share : Math.round(most * share))));
    }
    groups.forEach((group, at) => {
      let y = height;
      const label = group.length === 1 ? name(group[0]) : `${name(group[0])} to ${name(group[group.length - 1])}`;
      series.forEach(([key, part], number) => {
        const value = group.reduce((sum, row) => sum + row[key], 0);
        const tall = (value / most) * (height - 8);
        y -= tall;
        svg.append(draw("rect", { class: `s${number}`, x: left + at * step + Math.min(1.5, step * 0.1), y, width: Math.max(0.5, Math.min(step * 0.85, 40)), height: tall },
          draw("title", {}, `${label}: ${part} ${words(value)}`)));
      });
      if (at % Math.ceil(groups.length / 16) === 0) svg.append(draw("text", { x: left + at * step, y: height + 14 }, name(group[0]).replace("turn ", "")));
    });
    return make("figure", { class: "chart" }, make("figcaption", { class: "chart-title" }, title), svg);
  }

  // ---- All of it

  async function start() {
    const data = await unpack("data");
    data.edits.forEach((edit, at) => { edit.number = at + 1; });
    const views = {};
    views.turns = turns(data);
    views.pushes = pushes(data);
    views.requests = requests(data);
    timeline(data, views);
    cost(data);
    document.documentElement.setAttribute("data-drawn", "");
  }
  start().catch((error) => {
    for (const id of ["timeline", "turns", "pushes", "egress"]) {
      place(id).append(make("p", { class: "note" }, `This could not be drawn (${error.message}); the record's files have it.`));
    }
  });
})();
