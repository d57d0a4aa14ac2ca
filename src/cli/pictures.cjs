// Photographs pages in Chromium: node pictures.cjs DIR OUT. DIR has pictures.json, a list of name, width and height, and NAME.html of each; OUT gets
// NAME.png. NODE_PATH has playwright-core; BOTTLE_TEST_CHROMIUM names the browser. A page that asks for anything, or has an error, ends it with 1.
"use strict";
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [DIR, OUT] = process.argv.slice(2).map((name) => path.resolve(name));

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.BOTTLE_TEST_CHROMIUM, args: ["--no-sandbox"] });
  fs.mkdirSync(OUT, { recursive: true });
  for (const { name, width, height } of JSON.parse(fs.readFileSync(path.join(DIR, "pictures.json"), "utf8"))) {
    const context = await browser.newContext({ viewport: { width, height }, deviceScaleFactor: 2, colorScheme: "light" });
    const page = await context.newPage();
    const file = `file://${path.join(DIR, `${name}.html`)}`;
    page.on("request", (request) => { if (request.url() !== file) throw new Error(`${name} asks for ${request.url()}`); });
    page.on("pageerror", (error) => { throw error; });
    await page.goto(file);
    if (await page.locator("script#data").count()) await page.waitForSelector("html[data-drawn]", { timeout: 60_000 });
    // A page that is shorter than its picture would leave it empty below.
    const used = await page.evaluate(() => Math.ceil(document.body.getBoundingClientRect().bottom + window.scrollY));
    const clip = { x: 0, y: 0, width, height: Math.min(height, used) };
    await page.screenshot({ path: path.join(OUT, `${name}.png`), clip });
    await context.close();
    console.log(`${name}: ${width} by ${clip.height}`);
  }
  await browser.close();
})().catch((error) => {
  console.log(error.stack);
  process.exit(1);
});
