// Looks at the page at a phone's and a desktop's width, keeps a picture of each, and fails where the page is wider than its window.

import { mkdir, readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const browser = await chromium.connectOverCDP(process.env.BROWSER_URL ?? "http://localhost:9222");
const page = await browser.newPage();
await mkdir("pictures", { recursive: true });
let failed = false;
for (const [name, width] of [["phone", 360], ["desktop", 1200]]) {
  await page.setViewportSize({ width, height: 640 });
  await page.setContent(await readFile("index.html", "utf8"));
  await page.screenshot({ path: `pictures/${name}.png` });
  const needed = await page.evaluate(() => document.documentElement.scrollWidth);
  console.log(`${name}: ${needed} of ${width} pixels`);
  failed ||= needed > width;
}
await browser.close();
process.exit(failed ? 1 : 0);
