// Drives the pages of a directory in Chromium: node browser.cjs DIR. A page whose name begins with `site` is one of many records, any other a
// run's; an .svg is a timeline, a .md has a diagram of Mermaid. NODE_PATH has playwright-core, axe-core and mermaid; BOTTLE_TEST_CHROMIUM names the browser; pictures go where BOTTLE_TEST_PICTURES says. Ends with 1, and says why, if anything is not as it should be.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const DIR = path.resolve(process.argv[2]);
const PICTURES = process.env.BOTTLE_TEST_PICTURES;
const WIDTHS = [390, 820, 1280];
const SECTIONS = ["summary", "timeline", "turns", "pushes", "egress", "cost", "checks", "record"];
const SITE_SECTIONS = ["agents", "cost", "refusals", "phases", "runs", "left-out"];
const isSite = (name) => name.startsWith("site");
const sections = (name) => isSite(name) ? SITE_SECTIONS : SECTIONS;
const problems = [];

function check(holds, name, what) {
  if (!holds) problems.push(`${name}: ${what}`);
}

/** A page whose every request, dialog and error is counted. */
async function open(browser, name, options) {
  const context = await browser.newContext({ viewport: { width: options.width || 1280, height: 900 }, ...options.context });
  const page = await context.newPage();
  const file = `file://${path.join(DIR, options.file || `${name}.html`)}`;
  page.on("request", (request) => check(request.url().split("#")[0] === file, name, `asked for ${request.url().slice(0, 200)}`));
  page.on("dialog", (dialog) => {
    problems.push(`${name}: a dialog says ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("pageerror", (error) => problems.push(`${name}: ${error}`));
  page.on("console", (message) => check(message.type() !== "error" || options.quiet, name, `console: ${message.text()}`));
  page.on("popup", () => problems.push(`${name}: opened a window`));
  const start = Date.now();
  await page.goto(file, { waitUntil: "commit" });
  if (isSite(name) || options.still) await page.waitForLoadState("load");
  else await page.waitForSelector("html[data-drawn]", { timeout: 60_000 });
  return { context, page, ms: Date.now() - start };
}

/** The times to the first paint and to everything drawn, which a benchmark compares; nothing is asserted of them. */
async function times(page, name, ms) {
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint").map((entry) => Math.round(entry.startTime))[0]);
  const size = (fs.statSync(path.join(DIR, `${name}.html`)).size / 1e6).toFixed(2);
  console.log(`${name}: ${size} MB, first view after ${paint} ms, all of it drawn after ${ms} ms`);
}

/** Nothing that the run's texts name is there as an element, an attribute or a global. */
async function inert(page, name) {
  const alive = await page.evaluate((site) => {
    const ourLinks = site ? /^#[a-z-]+$|^[a-z0-9/-]+\/report\.html$/ : /^#[a-z]+$|^https:\/\/github\.com\//;
    const ours = /^(a|article|blockquote|body|br|button|code|dd|details|div|dl|dt|figcaption|figure|footer|g|h[1-4]|head|header|html|input|label|li|line|main|meta|nav|noscript|option|p|pre|rect|script|section|select|span|strong|style|summary|svg|table|tbody|td|text|th|thead|title|tr|ul)$/;
    const wrong = [];
    for (const element of document.querySelectorAll("*")) {
      if (!ours.test(element.localName)) wrong.push(`<${element.localName}>`);
      for (const { name, value } of element.attributes) {
        if (/^on|^style$|^src|^ping$|^formaction$|^action$|^target$|^autofocus$/.test(name)) wrong.push(`${element.localName} ${name}`);
        if (name === "href" && !ourLinks.test(value)) wrong.push(`href ${value}`);
      }
    }
    if (document.querySelectorAll("script").length !== [...document.querySelectorAll("script")].filter((script) => script.id === "data" || script.id.startsWith("part-") || script.textContent.startsWith("\"use strict\"")).length) wrong.push("a script of others'");
    if (document.querySelectorAll("style").length !== 1) wrong.push("a style of others'");
    if ("alive" in window || "alive" in Object.prototype) wrong.push("a global");
    const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/.exec(document.body.innerText);
    if (hidden) wrong.push(`a hidden character, ${hidden[0].codePointAt(0).toString(16)}`);
    if (site && document.querySelectorAll("script").length) wrong.push("a script");
    return [...new Set(wrong)];
  }, isSite(name));
  check(alive.length === 0, name, `alive: ${alive.join(", ")}`);
}

async function accessible(browser, name) {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of WIDTHS) {
      // Axe's own script is no part of the page, and the page's policy would not let it run.
      const { context, page } = await open(browser, name, { width, context: { colorScheme, bypassCSP: true } });
      await opened(page);
      // The hostile page is the same page with other words, of which axe's search for colours behind colours takes minutes.
      if (name !== "hostile") await audit(page, name, `${width}, ${colorScheme}`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      check(over <= 0, name, `${over} pixels wider than ${width}`);
      if (PICTURES) await picture(page, `${name}-${width}-${colorScheme}`);
      await context.close();
    }
  }
}

async function audit(page, name, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => (await globalThis.axe.run(document, { resultTypes: ["violations"] })).violations
    .map((rule) => `${rule.id}: ${rule.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} (${node.any.concat(node.all, node.none).map((why) => why.message).join("; ").slice(0, 200)})`).join(" | ")}`));
  check(found.length === 0, name, `axe at ${where}: ${found.join("\n  ")}`);
}

/** The first tools and every diff are opened, so that what is folded is looked at, too. */
async function opened(page) {
  await page.evaluate(() => {
    for (const details of [...document.querySelectorAll("details")].slice(0, 12)) details.open = true;
  });
  await page.waitForTimeout(300);
}

async function picture(page, file) {
  fs.mkdirSync(PICTURES, { recursive: true });
  // What is out of view is not drawn, so everything is brought into view.
  const height = await page.evaluate(() => Math.min(6000, document.documentElement.scrollHeight));
  await page.setViewportSize({ width: page.viewportSize().width, height });
  await page.waitForTimeout(300);
  await page.screenshot({ path: path.join(PICTURES, `${file}.png`) });
}

/** By Tab alone: every section is reached, no focus is caught, and each stop can be seen. */
async function byKeyboard(browser, name, most) {
  const { context, page } = await open(browser, name, {});
  const reached = new Set();
  let back = false;
  for (let at = 0; at < most && !back; at++) {
    await page.keyboard.press("Tab");
    const here = await page.evaluate(() => {
      const on = document.activeElement;
      if (!on || on === document.body) return null;
      const outline = getComputedStyle(on).outlineStyle;
      return { section: on.closest("section")?.id, seen: outline !== "none", what: on.outerHTML.slice(0, 100) };
    });
    if (!here) {
      back = at > 5;
      continue;
    }
    if (here.section) reached.add(here.section);
    check(here.seen, name, `no outline on ${here.what}`);
  }
  check(back, name, `the focus did not come to the end in ${most} steps`);
  // Those with nothing to do in them are read and passed by.
  for (const section of sections(name)) {
    const stops = await page.locator(`#${section} :is(a[href],button,input,select,summary,[tabindex="0"]):visible`).count();
    check(stops === 0 || reached.has(section), name, `Tab does not come to ${section}`);
  }
  // The links at the top lead to every section.
  for (const section of sections(name)) {
    await page.locator(`nav a[href="#${section}"]`).focus();
    await page.keyboard.press("Enter");
    check((await page.evaluate(() => document.activeElement.id)) === section, name, `the link to ${section} does not lead there`);
  }
  if (isSite(name)) await siteKeys(page, name);
  else await timelineKeys(page, name);
  await context.close();
}

/** The first stop leads past the links; a table that is wider than the window is moved by the arrows. */
async function siteKeys(page, name) {
  await page.setViewportSize({ width: WIDTHS[0], height: 900 });
  await page.reload();
  await page.keyboard.press("Tab");
  const skip = await page.evaluate(() => ({ text: document.activeElement.textContent, left: document.activeElement.getBoundingClientRect().left }));
  check(skip.text.startsWith("Skip") && skip.left >= 0, name, `the first stop is ${skip.text} at ${skip.left}`);
  await page.keyboard.press("Enter");
  check((await page.evaluate(() => document.activeElement.id)) === "agents", name, "the first link leads nowhere");
  const table = page.locator("#runs [role=region]");
  await table.focus();
  await page.keyboard.press("ArrowRight");
  await page.waitForTimeout(300);
  check(await table.evaluate((region) => region.scrollLeft > 0 || region.scrollWidth <= region.clientWidth), name, "→ does not move the table of the runs");
}

/** A timeline by itself, in both schemes: it asks for nothing, has no script, and tells in words what it shows. */
async function timeline(browser, file) {
  const name = path.basename(file, ".svg");
  for (const colorScheme of ["light", "dark"]) {
    const { context, page } = await open(browser, name, { file, still: true, context: { colorScheme } });
    const found = await page.evaluate(() => ({
      root: document.documentElement.localName,
      kinds: [...new Set([...document.querySelectorAll("*")].map((element) => element.localName))].sort().join(),
      titles: document.querySelector("title").textContent.length > 10 && document.querySelector("desc").textContent.length > 10,
      names: document.documentElement.getAttribute("aria-labelledby").split(" ").every((id) => document.getElementById(id)),
      back: getComputedStyle(document.querySelector(".back")).fill,
      // A word that is longer than its place runs into what is beside it.
      over: [...document.querySelectorAll("text")].filter((text) => {
        const box = text.getBBox();
        return box.x < 0 || box.x + box.width > document.documentElement.viewBox.baseVal.width;
      }).map((text) => text.textContent),
    }));
    check(found.root === "svg" && found.titles && found.names, name, `it is no picture with words: ${JSON.stringify(found)}`);
    check(/^(desc|line|rect|style|svg|text|title|,)+$/.test(found.kinds), name, `alive: ${found.kinds}`);
    check(found.back === (colorScheme === "dark" ? "rgb(21, 24, 28)" : "rgb(255, 255, 255)"), name, `${colorScheme}: ${found.back}`);
    check(found.over.length === 0, name, `outside of the picture: ${found.over.join(" | ").slice(0, 300)}`);
    if (PICTURES) await page.screenshot({ path: path.join(PICTURES, `${name}-${colorScheme}.svg.png`) });
    await context.close();
  }
  console.log(`${name}: looked at`);
}

/** A diagram of a job's summary, drawn by Mermaid itself as GitHub has it drawn. */
async function diagram(browser, file) {
  const name = path.basename(file, ".md");
  const text = /^```mermaid\n([^]*?)^```$/m.exec(fs.readFileSync(path.join(DIR, file), "utf8"))[1];
  const context = await browser.newContext();
  const page = await context.newPage();
  page.on("request", (request) => check(false, name, `asked for ${request.url()}`));
  page.on("dialog", (dialog) => {
    problems.push(`${name}: a dialog says ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.addScriptTag({ content: fs.readFileSync(require.resolve("mermaid/dist/mermaid.min.js"), "utf8") });
  const drawn = await page.evaluate(async (text) => {
    globalThis.mermaid.initialize({ startOnLoad: false, securityLevel: "strict" });
    try {
      const { svg } = await globalThis.mermaid.render("drawn", text);
      document.body.innerHTML = svg;
      return { tasks: document.querySelectorAll("rect.task").length, alive: document.body.querySelectorAll("script, a, img, iframe").length, wide: [...document.querySelectorAll("rect.task")].some((task) => task.getAttribute("width") > 20) };
    } catch (error) {
      return { error: String(error) };
    }
  }, text);
  const tasks = text.split("\n").filter((line) => / :/.test(line)).length;
  check(drawn.tasks === tasks && drawn.alive === 0 && drawn.wide, name, `Mermaid draws ${JSON.stringify(drawn)} of ${tasks}: ${text.slice(0, 400)}`);
  if (PICTURES) await page.screenshot({ path: path.join(PICTURES, `${name}.png`), fullPage: true });
  await context.close();
  console.log(`${name}: looked at`);
}

/** The timeline: one item after the other, another row, zoom, and to the details. */
async function timelineKeys(page, name) {
  const read = () => page.locator("#timeline-picked").innerText();
  await page.locator("[role=application]").focus();
  await page.keyboard.press("Home");
  const first = await read();
  check(/Phases\s+prepare/.test(first), name, `Home goes to ${first}`);
  await page.keyboard.press("ArrowRight");
  check(/Phases\s+launch/.test(await read()), name, `→ goes to ${await read()}`);
  await page.keyboard.press("ArrowDown");
  check(/^Turns/.test(await read()), name, `↓ goes to ${await read()}`);
  const before = await page.locator("[role=application] text").allInnerTexts();
  for (let at = 0; at < 3; at++) await page.keyboard.press("+");
  check((await page.locator("[role=application] text").allInnerTexts()).join() !== before.join(), name, "+ does not zoom");
  await page.keyboard.press("0");
  check((await page.locator("[role=application] text").allInnerTexts()).join() === before.join(), name, "0 does not show all of it");
  await page.keyboard.press("Enter");
  check(await page.evaluate(() => Boolean(document.activeElement.closest("#turns .turn"))), name, "Enter does not lead to the turn");
}

/** Sorting, filtering, unfolding. */
async function uses(browser, name) {
  const { context, page } = await open(browser, name, {});
  const egress = page.locator("#egress");
  const whole = egress.locator("th", { hasText: "Whole" });
  await whole.locator("button").click();
  check((await whole.getAttribute("aria-sort")) === "ascending", name, "a column is not sorted");
  await whole.locator("button").click();
  const times = (await egress.locator("tbody tr td:last-child").allInnerTexts()).map((text) => Number.parseInt(text.replaceAll(",", ""), 10));
  check(times.every((ms, at) => at === 0 || ms <= times[at - 1]), name, `not sorted: ${times}`);
  await egress.locator("select").first().selectOption("deny");
  const verdicts = await egress.locator("tbody .chip").allInnerTexts();
  check(verdicts.length > 0 && verdicts.every((verdict) => verdict === "deny"), name, `filtered: ${verdicts}`);
  const tool = page.locator(".tool").first();
  await tool.locator("summary").click();
  await tool.locator("pre").nth(1).waitFor();
  await tool.locator("summary").click();
  await tool.locator("pre").first().waitFor({ state: "detached" });
  await page.locator("#turns input[type=search]").fill("look");
  check(/of/.test(await page.locator("#turns [role=status]").innerText()), name, "the turns are not filtered");
  await page.emulateMedia({ media: "print" });
  check(!(await page.locator("nav").isVisible()), name, "the links are printed");
  await context.close();
}

/** What a reader without a script has. */
async function still(browser, name) {
  const { context, page } = await open(browser, name, { still: true, quiet: true, context: { javaScriptEnabled: false } });
  await page.waitForLoadState("load");
  const text = await page.locator("body").innerText();
  for (const words of ["Summary", "exit code", "Checks", "Record", "Without a script"]) check(text.includes(words), name, `without a script there is no "${words}"`);
  await context.close();
}

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.BOTTLE_TEST_CHROMIUM, args: ["--no-sandbox"] });
  const only = process.env.BOTTLE_TEST_PAGES?.split(",");
  for (const file of fs.readdirSync(DIR).filter((file) => file.endsWith(".html")).sort()) {
    const name = path.basename(file, ".html");
    if (only && !only.includes(name)) continue;
    if (PICTURES) fs.cpSync(path.join(DIR, file), path.join(PICTURES, file), { recursive: true });
    const { context, page, ms } = await open(browser, name, {});
    await times(page, name, ms);
    await opened(page);
    await inert(page, name);
    await context.close();
    if (!isSite(name)) await still(browser, name);
    await accessible(browser, name);
    if (name !== "hostile") await byKeyboard(browser, name, name === "large" ? 2500 : 400);
    if (name === "success" || name === "denied-route") await uses(browser, name);
    console.log(`${name}: looked at`);
  }
  for (const file of fs.readdirSync(DIR).sort()) {
    if (only && !only.includes(path.basename(file, path.extname(file)))) continue;
    if (file.endsWith(".svg")) await timeline(browser, file);
    if (file.endsWith(".md")) await diagram(browser, file);
  }
  await browser.close();
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length ? 1 : 0;
})().catch((error) => {
  console.log(problems.join("\n"));
  console.log(error.stack);
  process.exit(1);
});
